"""Where the student stands, in their own words: a deterministic reading of the history, linear in its length."""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain

from app.generate.agent.affect import affect
from app.generate.agent.bounds import ENTRIES_MAX, LINE_CHARS
from app.generate.agent.cues import Cue
from app.generate.agent.options import options
from app.generate.agent.progress import progress
from app.generate.agent.reading import Reading, matches, open_points, read, sentences_with
from app.generate.agent.text import tidy
from app.generate.agent.values import Snapshot
from app.turn import Project, StoredMessage

READ_MESSAGES = 4
"""Earlier own messages that are read for what a student lacks, has and wants; older ones are another matter."""
READ_CUES: tuple[Cue, ...] = (
    "anxiety", "decision", "options", "uncertainty", "action", "horizon", "blocker", "resource", "goal", "purpose",
)  # fmt: skip
"""What an earlier message can still tell; the rest is of the last message alone."""


def snapshot(history: Sequence[StoredMessage], message: str, project: Project | None, now: datetime) -> Snapshot:
    """Return the snapshot of a student who has just sent `message`.

    Args:
        history: the conversation's messages, oldest first; any number.
        message: the last one, not in `history` yet.
        project: of this conversation.
        now: when the message was admitted.
    """
    own = [row for row in reversed(history) if row.sender == "user"]
    return snapshot_of(read(message), own, project, now)


def snapshot_of(reading: Reading, own: Sequence[StoredMessage], project: Project | None, now: datetime) -> Snapshot:
    """Return the snapshot of an already read message; `own` are the student's messages before it, newest first."""
    earlier = [read(row.message, READ_CUES) for row in own[:READ_MESSAGES]]
    readings = [reading, *earlier]
    return Snapshot(
        goal=_newest(readings, "goal") or _stated_goal(project),
        purpose=_newest(readings, "purpose"),
        project_context=project_context(project),
        project_id=project.id if project else None,
        time_horizon=_horizon(readings),
        last_action=_newest(readings, "action"),
        blockers=_collected(readings, lambda one: sentences_with(one, "blocker")),
        uncertainties=_collected(readings, open_points),
        options_considered=next((found for one in readings if (found := options(one))), ()),
        resources=_collected(readings, lambda one: sentences_with(one, "resource")),
        affect=affect(reading, earlier),
        progress_signal=progress(reading, own, now),
    )


def project_context(project: Project | None) -> str | None:
    """Return what the project says of itself on one line, or None."""
    if project is None:
        return None
    texts = (tidy(text, LINE_CHARS // 3 - 3) for text in (project.theme, project.question, project.hypothesis))
    return " / ".join(text for text in texts if text) or None


def _stated_goal(project: Project | None) -> str | None:
    if project is None:
        return None
    return tidy(project.question, LINE_CHARS) or tidy(project.theme, LINE_CHARS) or None


def _newest(readings: Sequence[Reading], cue: Cue) -> str | None:
    found = (sentences_with(one, cue, LINE_CHARS) for one in readings)
    return next(chain.from_iterable(found), None)


def _horizon(readings: Sequence[Reading]) -> str | None:
    found = (matches(one, "horizon") for one in readings)
    text = next(chain.from_iterable(found), None)
    return tidy(text, LINE_CHARS) if text else None


def _collected(readings: Sequence[Reading], of: Callable[[Reading], list[str]]) -> tuple[str, ...]:
    entries = dict.fromkeys(entry for one in readings for entry in of(one))
    return tuple(entries)[:ENTRIES_MAX]
