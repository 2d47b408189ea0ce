"""Which of our two languages a reader prefers."""

from typing import Literal

Language = Literal["en", "ja"]


def preferred_language(accept_language: str) -> Language:
    """Return the language of ours that an `Accept-Language` header (RFC 9110, 12.5.4) ranks first, else English.

    A header that cannot be read prefers nothing.
    """
    best: Language = "en"
    best_q = 0.0
    for item in accept_language.split(","):
        tag, _, weight = item.partition(";")
        language = tag.strip().lower().split("-")[0]
        q = _weight(weight)
        if q > best_q and (language == "ja" or language == "en"):
            best, best_q = ("ja" if language == "ja" else "en"), q
    return best


def _weight(text: str) -> float:
    name, _, value = text.strip().partition("=")
    if not name:
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0
