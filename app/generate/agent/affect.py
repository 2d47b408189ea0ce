"""How a student feels, 0 to 5, from their words."""

from collections.abc import Sequence

from app.generate.agent.cues import Cue
from app.generate.agent.reading import Reading, matches
from app.generate.agent.values import Affect

HIGH = 3
"""From here on a feeling decides something: one plain word for it."""

_RECENT = 2
"""A feeling lasts for so many messages: one that was said in them and not taken back counts `_RESIDUE`."""
_RESIDUE = 1


def affect(message: Reading, earlier: Sequence[Reading]) -> Affect:
    """Return what a message tells of its writer's feelings.

    A feeling's first word counts 3, each further one 1; an intensifier adds 1, a softener takes 1. Exclamation marks
    add to excitement. Words that deny an anxiety take its words back.

    Args:
        message: the last one.
        earlier: the same student's messages before it, newest first.
    """
    anxiety = _level(message, "anxiety", len(matches(message, "calm")))
    excitement = _level(message, "excitement")
    excited = excitement + min(2, message.folded.count("!")) if excitement else 0
    interest = max(_level(message, "interest"), 2 if message.cues & {"goal", "excitement"} else 0)
    if not anxiety and "calm" not in message.cues and any("anxiety" in old.cues for old in earlier[:_RECENT]):
        anxiety = _RESIDUE
    return Affect(interest=interest, anxiety=anxiety, excitement=min(5, excited))


def _level(message: Reading, cue: Cue, taken_back: int = 0) -> int:
    words = len(set(matches(message, cue))) - taken_back
    if words <= 0:
        return 0
    shift = ("stress" in message.cues) - ("softening" in message.cues)
    return max(1, min(5, HIGH + words - 1 + shift))
