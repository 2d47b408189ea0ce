"""The files of the console's page: read once, packed once, and named by what is in them.

A name is looked up among those that were read; no path is ever made of a request. Links are not followed, so what the
folder does not hold itself is not served. All files share one digest: modules import each other by relative names, and
so every address changes as soon as anything does.
"""

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

INDEX = "index.html"
PLACEHOLDER = "{{static}}"
"""In the page: where its files are, relative to itself, so that a proxy may put a prefix before both."""
DIGEST_DIGITS = 16
HTML = "text/html; charset=utf-8"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""What is served: a file of another ending, an editor's or a note of ours, is none of the page's."""
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """A file as it is sent. `packed` is its gzip, None where that saves nothing; each has an entity tag of its own."""

    content_type: str
    body: bytes
    packed: bytes | None
    tag: str
    packed_tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePage:
    """The page, and its files by their names below `console/<digest>/`."""

    digest: str
    index: PageFile
    files: Mapping[str, PageFile]


def read_console(folder: Path) -> ConsolePage:
    """Return the page that lies in `folder`. Blocks, for some tens of milliseconds.

    Raises:
        OSError: a file cannot be read.
        KeyError: there is no index.html.
    """
    found = [folder / INDEX, *(path for path in folder.rglob("*") if path.suffix in TYPES)]
    own = (path for path in found if path.is_file() and not path.is_symlink())
    return console_page({path.relative_to(folder).as_posix(): path.read_bytes() for path in own})


def console_page(contents: Mapping[str, bytes]) -> ConsolePage:
    """Return the page made of these files, by name.

    Raises:
        KeyError: there is no index.html among them.
    """
    digest = digest_of(contents)
    index = contents[INDEX].replace(PLACEHOLDER.encode(), f"console/{digest}".encode())
    return ConsolePage(
        digest=digest,
        index=_packed(HTML, index, digest),
        files={name: _packed(TYPES[Path(name).suffix], contents[name], digest) for name in contents.keys() - {INDEX}},
    )


def digest_of(contents: Mapping[str, bytes]) -> str:
    """Return the digest of all names and bytes, whatever their order. What is hashed cannot be cut in two ways."""
    whole = sha256()
    for name in sorted(contents):
        whole.update(sha256(name.encode()).digest() + sha256(contents[name]).digest())
    return whole.hexdigest()[:DIGEST_DIGITS]


def is_named(if_none_match: str, tag: str) -> bool:
    """Return whether an `If-None-Match` names an entity tag: any by `*`, else by weak comparison (RFC 9110, 13.1.2)."""
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


def _packed(content_type: str, body: bytes, digest: str) -> PageFile:
    packed = gzip.compress(body, mtime=0)
    return PageFile(
        content_type=content_type,
        body=body,
        packed=packed if len(packed) < len(body) else None,
        tag=f'"{digest}"',
        packed_tag=f'"{digest}-gzip"',  # another representation, so by RFC 9110, 8.8.3.3, another tag
    )
