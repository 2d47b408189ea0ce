"""One message as the rules read it: which cues it has, and in which words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.generate.agent.bounds import ENTRIES_MAX, ENTRY_CHARS
from app.generate.agent.cues import CUES, PATTERNS, Cue
from app.generate.agent.language import Language
from app.generate.agent.text import READ_CHARS, normal, sentences, tidy

_KANA_OR_KANJI = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN = re.compile(r"[a-z]{2}")
_CLAUSE_END = re.compile(r"[、，]|(?:,|\bor|\band)(?=\s+(?:what|how|who|which|where|when|why|if)\b)")


@dataclass(frozen=True, slots=True)
class Reading:
    """A message, cut, and the cues that were found in it. `folded` is the text as cues are matched with it."""

    text: str
    folded: str
    languages: tuple[Language, ...]
    cues: frozenset[Cue]


def read(message: str, cues: Sequence[Cue] = CUES) -> Reading:
    """Return the reading of a message, for all cues or for some; of a very long one, of its beginning."""
    text = message[:READ_CHARS]
    folded = normal(text)[:READ_CHARS]
    languages = _languages(folded)
    found = frozenset(cue for cue in cues if any(PATTERNS[cue][language].search(folded) for language in languages))
    return Reading(text, folded, languages, found)


def has(message: str, cue: Cue) -> bool:
    """Return whether a message has one cue."""
    return cue in read(message, (cue,)).cues


def _languages(folded: str) -> tuple[Language, ...]:
    """Return which patterns a folded text can match at all: those of the scripts that are in it."""
    japanese: tuple[Language, ...] = ("ja",) if _KANA_OR_KANJI.search(folded) else ()
    return (*japanese, "en") if _LATIN.search(folded) else japanese


def matches(reading: Reading, cue: Cue) -> list[str]:
    """Return what matched a cue, in its order, each as often as it is there."""
    if cue not in reading.cues:
        return []
    found = (PATTERNS[cue][language].finditer(reading.folded) for language in reading.languages)
    return [match[0] for matched in found for match in matched]


def sentences_with(reading: Reading, cue: Cue, chars: int = ENTRY_CHARS) -> list[str]:
    """Return the message's sentences that have a cue, fit to be shown: each cut to `chars`, `ENTRIES_MAX` at most."""
    if cue not in reading.cues:
        return []
    patterns = [PATTERNS[cue][language] for language in reading.languages]
    found: list[str] = []
    for sentence in sentences(reading.text):
        folded = normal(sentence)
        if any(pattern.search(folded) for pattern in patterns) and (shown := tidy(sentence, chars)):
            found.append(shown)
            if len(found) == ENTRIES_MAX:
                break
    return found


def open_points(reading: Reading) -> list[str]:
    """Return what the student does not know, one entry for each: `I don't know what to read, or who to ask` has two.

    In a sentence with an uncertainty cue, a clause is a point when it has the cue itself or begins with a question
    word.
    """
    return [
        shown
        for sentence in sentences_with(reading, "uncertainty", READ_CHARS)
        for clause in _points(sentence, reading)
        if (shown := tidy(clause, ENTRY_CHARS))
    ][:ENTRIES_MAX]


def _points(sentence: str, reading: Reading) -> list[str]:
    patterns = [PATTERNS["uncertainty"][language] for language in reading.languages]
    points: list[str] = []
    last = 0
    asked = False
    for match in _CLAUSE_END.finditer(sentence):
        points += _point(sentence[last : match.start()], asked, patterns)
        last, asked = match.end(), match[0] not in "、，"
    return points + _point(sentence[last:], asked, patterns)


def _point(clause: str, asked: bool, patterns: list[re.Pattern[str]]) -> list[str]:
    folded = normal(clause)
    return [clause] if asked or any(pattern.search(folded) for pattern in patterns) else []
