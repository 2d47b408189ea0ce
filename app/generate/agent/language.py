"""Which of the two languages a student writes in."""

import re
from collections.abc import Iterable
from itertools import chain
from typing import Literal

Language = Literal["ja", "en"]

LETTERS_THAT_TELL = 3
"""Fewer letters ("A", "OK", "No") are written in the middle of a Japanese talk too, and tell nothing."""

_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f々]")


def language_of(text: str, previous: Iterable[str] = (), default: Language = "en") -> Language:
    """Return the language of a student's last message: Japanese when it holds kana or kanji, else English.

    A message that tells nothing (emoji, digits, a letter or two) is taken to be in the language of the newest earlier
    one that does tell.

    Args:
        text: the last message.
        previous: the same student's earlier messages, newest first; read only as far as needed.
        default: when none of them tells.
    """
    for candidate in chain((text,), previous):
        if language := _told(candidate):
            return language
    return default


def _told(text: str) -> Language | None:
    if _JAPANESE.search(text):
        return "ja"
    letters = 0
    for character in text:
        letters += character.isalpha()
        if letters >= LETTERS_THAT_TELL:
            return "en"
    return None
