"""Whether a student moves: what they did, whether they say new things, go in circles, how wide they aim."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from app.generate.agent.bounds import ENTRIES_MAX, ENTRY_CHARS
from app.generate.agent.reading import Reading, has, matches, sentences_with
from app.generate.agent.text import likeness, normal, tidy, units
from app.generate.agent.values import ProgressSignal
from app.turn import StoredMessage

WEEK = timedelta(days=7)
RECENT = 10
"""Own messages that a new one is compared with."""
UNITS_CHARS = 400
"""Of each message, so much is compared."""
ALIKE = 0.55
"""Jaccard index from which two messages say the same; two wordings of one question are at 0.6 to 0.9."""
ALIKE_UNITS_MIN = 4
"""A message with fewer units ("yes", "OK") may be repeated without going in circles."""
REPEATS_MIN = 2
"""Earlier messages that say the same: asked once more is a retry, or patience."""

BREADTH, BREADTH_TOO_BROAD, BREADTH_MAX = 4, 9, 10
WIDE_STEP, NARROW_STEP = 2, -2
LISTED_WIDE = 4
"""An enumeration of so many things that are not options makes a topic wide."""

_LISTED_JA = re.compile(r"[^もや、・,，。！？!?]{1,12}[もや、・,，](?![のっう])")
_LISTED_EN = re.compile(r"[a-z][a-z' ]{1,30}(?:,| and )")


def progress(message: Reading, own: Sequence[StoredMessage], now: datetime) -> ProgressSignal:
    """Return a student's progress.

    Args:
        message: the last one.
        own: all stored messages of the same student, newest first.
        now: the time of the last message.
    """
    said = units(message.folded[:UNITS_CHARS])
    recent = [units(normal(row.message[:UNITS_CHARS])) for row in own[:RECENT]]
    return ProgressSignal(
        actions_in_last_7_days=actions(message, own, now),
        novelty_ratio=novelty(said, recent),
        looping_signals=tuple(looping(message, said, recent)),
        scope_breadth=breadth(message),
    )


def actions(message: Reading, own: Sequence[StoredMessage], now: datetime) -> int:
    """Return how many messages of the last 7 days, the last one included, report something done."""
    week = (row.message for row in own if now - row.created_at <= WEEK)
    return ("action" in message.cues) + sum(has(text[:UNITS_CHARS], "action") for text in week)


def novelty(said: frozenset[str], recent: Sequence[frozenset[str]]) -> float:
    """Return the share of a message's units that none of the recent ones has; a message without units is not new."""
    known = frozenset().union(*recent)
    return round(len(said - known) / len(said), 3) if said else 0.0


def looping(message: Reading, said: frozenset[str], recent: Sequence[frozenset[str]]) -> list[str]:
    """Return the signs of going in circles: sentences that say so, and the message itself when it was said before."""
    signs = sentences_with(message, "looping")
    if len(said) >= ALIKE_UNITS_MIN and sum(likeness(said, old) >= ALIKE for old in recent) >= REPEATS_MIN:
        signs.append(tidy(message.text, ENTRY_CHARS))
    return [sign for sign in dict.fromkeys(signs) if sign][:ENTRIES_MAX]


def breadth(message: Reading) -> int:
    """Return how wide a message aims, 1 to 10, 4 when nothing tells.

    Who says that it is too broad, or asks to narrow it, aims too wide: 9. Else each distinct wide word ("everything",
    "the world") adds 2, and the first 2 more when it is said of an aim; an enumeration of four things adds 3 and 1 for
    each further one; a narrow word takes 2.
    """
    if "too_broad" in message.cues:
        return BREADTH_TOO_BROAD
    width = BREADTH + WIDE_STEP * len(set(matches(message, "wide")))
    if message.cues >= {"wide", "goal"}:
        width += WIDE_STEP
    if not message.cues & {"decision", "options"} and (listed := _listed(message)) >= LISTED_WIDE:
        width += listed - 1
    if "narrow" in message.cues:
        width += NARROW_STEP
    return max(1, min(BREADTH_MAX, width))


def _listed(message: Reading) -> int:
    """Return how many things the longest enumeration of a message has."""
    runs = [len(_LISTED_JA.findall(part)) for part in re.split(r"[。！？!?\n]", message.folded)]
    runs += [len(_LISTED_EN.findall(part)) + 1 for part in re.split(r"[.!?\n]", message.folded)]
    return max(runs)
