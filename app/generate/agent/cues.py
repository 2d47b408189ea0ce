r"""What students say when something is the matter: the cues, each with its Japanese and its English pattern.

Patterns are matched against `text.normal` (folded, lower case). English ones are put between word boundaries, so
`worr\w+` is a word that begins so. No repetition holds another unbounded one and gaps are bounded, so that a match
takes time linear in the text. Patterns are of words and forms, never of whole sentences.
"""

import re
from collections.abc import Mapping
from typing import Literal, get_args

from app.generate.agent.cues_en import EN
from app.generate.agent.cues_ja import JA
from app.generate.agent.language import Language

Cue = Literal[
    "anxiety",  # worry, fear, pressure of time
    "calm",  # takes back an anxiety that it denies
    "excitement",
    "interest",
    "stress",  # makes a feeling stronger
    "softening",  # makes a feeling weaker
    "looping",  # says that they go in circles
    "perspective",  # asks for another view, or was told that theirs is one-sided
    "contradiction",  # a result against the expectation
    "decision",  # wants to choose
    "options",  # names what there is to choose from, be the choice asked for or not
    "too_broad",  # says that it is too much, or wants to narrow it
    "wide",  # everything, the world
    "narrow",  # only, in my school
    "path",  # what first, what next
    "lost",  # does not know how to go about it at all
    "uncertainty",  # does not know something
    "inertia",  # does not get going
    "intention",  # says what they will do
    "action",  # says what they did
    "horizon",  # until when
    "blocker",
    "resource",
    "goal",
    "purpose",
]

CUES: tuple[Cue, ...] = get_args(Cue)

PATTERNS: Mapping[Cue, Mapping[Language, re.Pattern[str]]] = {
    cue: {"ja": re.compile(JA[cue]), "en": re.compile(rf"\b(?:{EN[cue]})(?!\w)")} for cue in CUES
}
