"""Takes secrets out of what is shown: whatever text they got into, and however they got there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

MASK = "**********"
SHORTEST = 6
"""A shorter secret is no secret, and stands in many an innocent word."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """Knows the secrets; `redaction` makes it."""

    secrets: tuple[str, ...] = ()

    def text(self, text: str) -> str:
        """Return the text, with asterisks for each secret."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text

    def of(self, value: Any) -> Any:
        """Return a value of JSON with no secret in any of its texts and names."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.of(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(each) for each in value]
        return value


def redaction(secrets: Iterable[str]) -> Redaction:
    """Return what takes these out, also where they were quoted for a URL; longest first, as one may be in another."""
    known = {form for secret in secrets if len(secret) >= SHORTEST for form in (secret, quote(secret, safe=""))}
    return Redaction(tuple(sorted(known, key=lambda secret: (-len(secret), secret))))
