"""How to support a student now: an ordered table, of which the first row that fits decides.

The order is the precedence. What stops all else comes first (going in circles), then what a student asks for (a choice,
a narrower topic, a view of a result that contradicts them, a way to go), then what one may infer (fear that keeps them
from acting, many things unknown). A result against the prediction stands before fear, because it is the reason of it;
a fear that holds an idle student back stands before a path, because a path is no help to who does not dare begin it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.generate.agent.affect import HIGH
from app.generate.agent.language import Language
from app.generate.agent.reading import Reading, open_points
from app.generate.agent.values import Snapshot, Support, SupportType

TOO_BROAD = 7
"""A scope over this is narrowed."""
MANY_OPTIONS = 3
"""More options than this, in a message that names them, call for a decision, asked for or not."""
MANY_UNCERTAINTIES = 2
"""Open points of one message from which on the way itself is missing."""
LITTLE_ACTION = 1
"""Reports of something done in 7 days, at most."""


@dataclass(frozen=True, slots=True)
class Row:
    """When `fits`, this type, for this reason, with this confidence, 0 to 1."""

    fits: Callable[[Snapshot, Reading], bool]
    type: SupportType
    reason: Mapping[Language, str]
    confidence: float


def _loops(snapshot: Snapshot, _: Reading) -> bool:
    return bool(snapshot.progress_signal.looping_signals)


def _too_broad(snapshot: Snapshot, _: Reading) -> bool:
    return snapshot.progress_signal.scope_breadth > TOO_BROAD


def _chooses(snapshot: Snapshot, said: Reading) -> bool:
    """Who names no two options and says it is too much has nothing to choose between yet."""
    return "decision" in said.cues and (len(snapshot.options_considered) > 1 or "too_broad" not in said.cues)


def _idle(snapshot: Snapshot, _: Reading) -> bool:
    return snapshot.progress_signal.actions_in_last_7_days <= LITTLE_ACTION


def _anxious(snapshot: Snapshot, _: Reading) -> bool:
    return snapshot.affect.anxiety >= HIGH


TABLE = (
    Row(
        lambda now, said: _loops(now, said) and _too_broad(now, said),
        "絞り込み",
        {"ja": "考えが行き来し、範囲も広いため。", "en": "They go in circles in a scope that is too wide."},
        0.8,
    ),
    Row(
        _loops,
        "視点転換",
        {"ja": "同じ考えや問いを繰り返しているため。", "en": "The same thought or question keeps coming back."},
        0.8,
    ),
    Row(
        lambda now, said: bool(said.cues & {"decision", "options"}) and len(now.options_considered) > MANY_OPTIONS,
        "意思決定",
        {"ja": "選択肢が四つ以上あるため。", "en": "More than three options are on the table."},
        0.9,
    ),
    Row(
        _chooses,
        "意思決定",
        {"ja": "どれかを選ぼうとしているため。", "en": "They want to choose."},
        0.75,
    ),
    Row(
        _too_broad,
        "絞り込み",
        {"ja": "取り組む範囲が広すぎるため。", "en": "The scope is too wide."},
        0.8,
    ),
    Row(
        lambda _, said: bool(said.cues & {"contradiction", "perspective"}),
        "視点転換",
        {"ja": "結果や考えを別の面から見る時だから。", "en": "A result or a view asks to be seen from another side."},
        0.7,
    ),
    Row(
        lambda now, said: _anxious(now, said) and _idle(now, said),
        "行動活性化",
        {"ja": "不安が高く、最近の行動が少ないため。", "en": "Anxiety is high and little was done lately."},
        0.8,
    ),
    Row(
        lambda _, said: "inertia" in said.cues,
        "行動活性化",
        {"ja": "動き出せずにいるため。", "en": "They do not get going."},
        0.7,
    ),
    Row(
        lambda _, said: bool(said.cues & {"path", "lost"}),
        "道筋提示",
        {"ja": "進め方を求めているため。", "en": "They ask for a way to go."},
        0.8,
    ),
    Row(
        lambda _, said: len(open_points(said)) >= MANY_UNCERTAINTIES,
        "道筋提示",
        {"ja": "わからないことがいくつもあるため。", "en": "Several things are unknown at once."},
        0.75,
    ),
    Row(
        lambda _now, _said: True,
        "理解深化",
        {"ja": "特に妨げがなく、理解を深める時だから。", "en": "Nothing stands in the way: time to understand more."},
        0.6,
    ),
)


def support(snapshot: Snapshot, message: Reading, language: Language) -> Support:
    """Return how to support the student who sent `message`, with the reason in `language`."""
    row = next(row for row in TABLE if row.fits(snapshot, message))
    return Support(type=row.type, reason=row.reason[language], confidence=row.confidence)
