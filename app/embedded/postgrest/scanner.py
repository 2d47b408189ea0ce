"""A cursor over one query parameter, with the few tokens that PostgREST's grammar is made of."""

import re
from typing import Final

from app.embedded.postgrest.errors import DialectError, unsupported

NAME: Final = re.compile(r"(?:[\w $]|-(?!>))+")
WORD: Final = re.compile(r"[A-Za-z_]+")
QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
ECHO_CHARS: Final = 200  # of the parameter, in an error message


class Scanner:
    """Reads `text` from left to right; `what` names the parameter in errors."""

    def __init__(self, text: str, what: str) -> None:
        self._text = text
        self._what = what
        self._at = 0

    @property
    def at_end(self) -> bool:
        """Whether everything has been read."""
        return self._at == len(self._text)

    def ahead(self, token: str) -> bool:
        """Tell whether `token` comes next, without reading it."""
        return self._text.startswith(token, self._at)

    def take(self, token: str) -> bool:
        """Read `token` if it comes next, and tell whether it did."""
        if found := self.ahead(token):
            self._at += len(token)
        return found

    def expect(self, token: str) -> None:
        """Read `token`.

        Raises:
            DialectError: PGRST100, something else comes next.
        """
        if not self.take(token):
            raise self.failure()

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what `pattern` matches here, if anything."""
        if found := pattern.match(self._text, self._at):
            self._at = found.end()
        return found

    def name(self) -> str:
        """Read a column or table name, bare or in double quotes.

        Raises:
            DialectError: PGRST100, there is none; PGRST127, it is a path into JSON.
        """
        if (quoted := self.quoted()) is not None:
            return quoted
        found = self.match(NAME)
        if found is None or not (name := found[0].strip()):
            raise self.failure()
        if self.ahead("->"):
            raise unsupported("A path into a JSON column is")
        return name

    def quoted(self) -> str | None:
        r"""Read a text in double quotes, in which `\` keeps the next character; None when there is none."""
        found = self.match(QUOTED)
        return ESCAPED.sub(r"\1", found[1]) if found else None

    def element(self) -> str:
        """Read one value of a list: quoted, or raw up to `,` or `)`."""
        start = self._at
        quoted = self.quoted()
        if quoted is not None and (self.at_end or self._text[self._at] in ",)"):
            return quoted
        self._at = start
        return self.until(",)")

    def until(self, stops: str) -> str:
        """Read up to the first character of `stops`, or to the end."""
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in stops:
            self._at += 1
        return self._text[start : self._at]

    def rest(self) -> str:
        """Read everything that is left."""
        return self.until("")

    def end(self) -> None:
        """Make sure that everything was read.

        Raises:
            DialectError: PGRST100, it was not.
        """
        if not self.at_end:
            raise self.failure()

    def failure(self) -> DialectError:
        """Return the parse error at this place."""
        found = "end of input" if self.at_end else f'"{self._text[self._at]}"'
        return DialectError(
            "PGRST100",
            f'"failed to parse {self._what} ({self._text[:ECHO_CHARS]})" (line 1, column {self._at + 1})',
            details=f"unexpected {found}",
        )
