"""What is secret in URLs and in lists of headers, as settings spell them. Pure.

A URL is read as urlsplit and httpx read it: its user and password end at the last `@` before the path, so that one `@`
more belongs to the password. All of its query counts as secret, as keys are given there too, and so does a user without
a password, which is how some hosts take a token. None of this raises, however broken a URL is.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_plus

from telemetry.redaction import MASK

_USERINFO = re.compile(r"//([^/?#]*)@")
_QUERY = re.compile(r"([?#])(.+)", re.DOTALL)


def masked_url(url: str) -> str:
    """Return a URL with asterisks for its user and password, and for its query and fragment."""
    return _QUERY.sub(rf"\1{MASK}", _USERINFO.sub(f"//{MASK}@", url, count=1))


def secrets_in_url(url: str) -> Iterator[str]:
    """Yield the secrets of a URL, which may lack its scheme: as they are written, and as they are meant."""
    whole = url if "//" in url else f"//{url}"
    if found := _USERINFO.search(whole):
        user, _, password = found[1].partition(":")
        yield from (password or user, unquote(password or user))
    if found := _QUERY.search(whole):
        for part in re.split("[?&#]", found[2]):
            value = part.partition("=")[2] or part
            yield from (value, unquote_plus(value))


def secrets_in_headers(listed: str) -> Iterator[str]:
    """Yield the values of a list such as `authorization=Bearer%20abc,x-key=def`, and what follows a scheme in one."""
    for pair in listed.split(","):
        value = pair.partition("=")[2].strip()
        yield from (value, unquote(value), unquote(value).rpartition(" ")[2])
