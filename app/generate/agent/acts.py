"""Which speech acts a reply performs: a table from the support type, what the student's state changes in it, an order.

One act of the state's may join the type's primary one: `Reflect` for high anxiety, else `Reframe` for going in circles,
else `Act` for much talk without action. No act is performed in three replies running: one that the last two
both performed gives way to the type's next. Acts are put in Socratic order: what asks stands before what answers.
"""

from collections.abc import Mapping, Sequence
from typing import get_args

from app.generate.agent.affect import HIGH
from app.generate.agent.language import Language
from app.generate.agent.reading import Reading
from app.generate.agent.text import units
from app.generate.agent.values import ACTS_MAX, Acts, Snapshot, SpeechAct, SupportType
from app.turn import StoredMessage

TABLE: Mapping[SupportType, tuple[SpeechAct, ...]] = {
    "理解深化": ("Probe", "Inform", "Clarify", "Reflect"),
    "道筋提示": ("Outline", "Clarify", "Act", "Probe"),
    "視点転換": ("Reframe", "Probe", "Reflect", "Inform"),
    "行動活性化": ("Act", "Reflect", "Clarify", "Outline"),
    "絞り込み": ("Clarify", "Decide", "Probe", "Outline"),
    "意思決定": ("Decide", "Probe", "Clarify", "Inform"),
}
"""Primary, secondary, and who stands in for them: four, so that two remain when two give way."""

ORDER: tuple[SpeechAct, ...] = ("Reflect", "Clarify", "Probe", "Reframe", "Inform", "Outline", "Decide", "Act")
"""Socratic order: acts that ask, then acts that answer, a feeling before all."""
QUESTIONS: frozenset[SpeechAct] = frozenset({"Reflect", "Clarify", "Probe"})

TALK_WITHOUT_ACTION = 3
"""Own messages of a student who reported nothing done, from which on `Act` joins."""
BRIEF_UNITS = 3
"""A message without cues of so few words gets one act: a brief reply."""

_REASON: Mapping[str, Mapping[Language, str]] = {
    "table": {"ja": "支援タイプの基本の組み合わせ。", "en": "The support type's own acts."},
    "anxiety": {"ja": "不安が高いので、まず気持ちを受け止める。", "en": "Anxiety is high, so the feeling comes first."},
    "looping": {"ja": "繰り返しから離れるため、見方を変える。", "en": "A new view leads out of the circle."},
    "idle": {"ja": "行動が少ないので、小さな一歩を入れる。", "en": "Little was done lately: a small step joins."},
    "repeated": {"ja": "同じ働きかけが続いたので、別のものにする。", "en": "The same act came twice running."},
    "brief": {"ja": "短い発言なので、一つだけ働きかける。", "en": "The message is brief, so one act is enough."},
}


def acts(
    support: SupportType,
    snapshot: Snapshot,
    message: Reading,
    history: Sequence[StoredMessage],
    language: Language,
    replies: Sequence[StoredMessage],
) -> Acts:
    """Return the acts of the reply to `message`.

    Args:
        support: what was decided for it.
        snapshot: of its writer.
        message: the last one.
        history: the messages before it, oldest first.
        language: of the reason.
        replies: messages whose answers tell which acts came before; more than the history, where that is kept short.
    """
    tired = _tired(replies)
    cause, joining = _joining(snapshot, message, history)
    ranked = [*([joining] if joining and joining not in tired else []), *TABLE[support]]
    usable = [act for act in dict.fromkeys(ranked) if act not in tired]
    brief = not message.cues and len(units(message.folded)) <= BRIEF_UNITS
    chosen = usable[: 1 if brief else ACTS_MAX]
    reason = "brief" if brief else cause if joining in chosen else "table"
    if tired.intersection([*TABLE[support][:ACTS_MAX], joining]):
        reason = "repeated"
    return Acts(acts=tuple(sorted(chosen, key=ORDER.index)), reason=_REASON[reason][language])


def _joining(snapshot: Snapshot, message: Reading, history: Sequence[StoredMessage]) -> tuple[str, SpeechAct | None]:
    if snapshot.affect.anxiety >= HIGH:
        return "anxiety", "Reflect"
    if snapshot.progress_signal.looping_signals:
        return "looping", "Reframe"
    talks = sum(row.sender == "user" for row in history) >= TALK_WITHOUT_ACTION
    about_to_act = "intention" in message.cues
    if "inertia" in message.cues or (
        talks and not about_to_act and not snapshot.progress_signal.actions_in_last_7_days
    ):
        return "idle", "Act"
    return "table", None


def _tired(history: Sequence[StoredMessage]) -> frozenset[SpeechAct]:
    """Return the acts that the last two replies both performed."""
    replies = (row for row in reversed(history) if row.sender == "assistant")
    last, before = next(replies, None), next(replies, None)
    if last is None or before is None:
        return frozenset()
    return _performed(last) & _performed(before)


def _performed(row: StoredMessage) -> frozenset[SpeechAct]:
    """Return the acts that a stored reply says it performed; whatever is no act of ours is passed over."""
    context: object = row.context_data  # whatever an older back end left there
    stored = context.get("selected_acts") if isinstance(context, Mapping) else None
    if not isinstance(stored, list | tuple):
        return frozenset()
    return frozenset(act for act in get_args(SpeechAct) if act in stored)
