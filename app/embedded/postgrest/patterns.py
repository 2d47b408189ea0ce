r"""LIKE as Postgres has it, by way of SQLite's GLOB; and of its regular expressions those that are plain texts.

SQLite's own LIKE ignores the case of ASCII letters and of no others. GLOB minds the case; with both sides in lower case
it ignores it for every letter. `%` becomes `*`, `_` becomes `?`, and what GLOB would take for a sign goes in brackets.
"""

from typing import Final

from app.embedded.postgrest.errors import DialectError

GLOB_SIGNS: Final = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
REGEX_SIGNS: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
MAX_PATTERN_CHARS: Final = 2000  # SQLite refuses 50,000 bytes; brackets and UTF-8 make a character up to 4


def glob_of(like: str) -> str:
    r"""Return the GLOB pattern that matches what the LIKE pattern `like` matches; `\` keeps the next character.

    Raises:
        DialectError: 22025, it ends with the escape character; 54000, it is too long.
    """
    if len(like) > MAX_PATTERN_CHARS:
        raise DialectError("54000", "the pattern is too long", status=400)
    signs = []
    characters = iter(like)
    for character in characters:
        if character == "\\":
            kept = next(characters, None)
            if kept is None:
                raise DialectError("22025", "LIKE pattern must not end with escape character")
            signs.append(f"[{kept}]" if kept in "*?[" else kept)
        else:
            signs.append(GLOB_SIGNS.get(character, character))
    return "".join(signs)


def text_of(regex: str) -> str | None:
    """Return the one text that a regular expression of Postgres matches, or None if it may match others.

    A sign of ASCII behind a backslash is itself, and so is every character that is no sign.
    """
    text = []
    characters = iter(regex)
    for character in characters:
        kept = next(characters, "") if character == "\\" else character
        if (character == "\\") is not (kept in REGEX_SIGNS and kept != ""):
            return None
        text.append(kept)
    return "".join(text)


def lower_case(text: str | None) -> str | None:
    """Return `text` in lower case, each character by itself and as one; the SQL function of that name."""
    if text is None or text.isascii():
        return None if text is None else text.lower()
    return "".join([character.lower()[0] for character in text])
