"""Pieces of text: cut to a size, safe to store, comparable with one another."""

import re
import unicodedata

READ_CHARS = 2000
"""Of one message, at most so much is read by the rules: as long as a message may be by default."""

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_SPACE = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[。!?！？…\n])|(?<=[.;])\s+")
_JAPANESE_RUN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff々ー]+")
_WORD = re.compile(r"[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+(?:'[a-z]+)?")


def tidy(text: str, chars: int) -> str:
    """Return `text` on one line, of at most `chars` characters, without what a JSON column cannot hold.

    Control characters and lone surrogates become a space; a cut shows as `…`.
    """
    line = _SPACE.sub(" ", _CONTROL.sub(" ", text[: 4 * chars])).strip()
    return line if len(line) <= chars else line[: chars - 1].rstrip() + "…"


def is_storable(text: str) -> bool:
    """Return whether a JSON column can hold `text` as it is."""
    return _UNSTORABLE.search(text) is None


def normal(text: str) -> str:
    """Return `text` as cues are written: compatibility forms folded, lower case, straight apostrophes."""
    return unicodedata.normalize("NFKC", text).lower().replace("’", "'")


def sentences(text: str) -> list[str]:
    """Return the sentences of `text`, stripped, none of them empty."""
    return [piece for part in _SENTENCE_END.split(text) if (piece := part.strip())]


def units(normal_text: str) -> frozenset[str]:
    """Return what a text is compared by: character pairs of Japanese runs, and words of everything else.

    Args:
        normal_text: as `normal` returns it.
    """
    pairs = {
        run[start : start + 2] for run in _JAPANESE_RUN.findall(normal_text) for start in range(max(1, len(run) - 1))
    }
    return frozenset(pairs.union(_WORD.findall(normal_text)))


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard index of two texts' units, 0 to 1; nothing is like nothing: 0."""
    together = len(one | other)
    return len(one & other) / together if together else 0.0
