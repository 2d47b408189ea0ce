"""Faults on demand: what the scripted model does wrong, read from a marker in the last user message.

    [[fault: KIND [WORD...] [name=value...]]]

Words are split as in a shell, so a value with spaces is quoted. N counts tokens already sent, S is seconds.

    http STATUS [CODE] [body=openai|html|empty] [header=value...]
                               an error answer: OpenAI's error body with CODE, a gateway's page, or nothing
    silent [for=S]             accepts the request and sends not even headers (for ever, or S seconds, then goes on)
    stall [after=N] [for=S]    stops after N tokens (0: headers only), for ever or S seconds, then goes on
    cut [after=N]              the connection breaks after N tokens
    end [after=N] [done=yes]   the stream ends properly after N tokens, without finish and usage; `done`: with [DONE]
    error [after=N] [code=CODE]
                               an error chunk inside the 200, then the end
    garbage [after=N]          one chunk that is not JSON, then goes on
    no-usage                   no usage, though it was asked for
    slow [first=S] [each=S]    another pace: S before the first token, S before each other one

An answer that is not streamed has no place after N tokens: `cut` and `end` send half of its body (the second ends it
properly), `error` is a 500, `garbage` a body that is not JSON, `stall` holds the whole answer back.
Rejected: faults set by a control endpoint or a header. A marker travels through every layer of a real turn unseen,
and a person can type it into any front end.
"""

import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["none", "http", "silent", "stall", "cut", "end", "error", "garbage", "no-usage", "slow"]

_MARKER = re.compile(r"\[\[fault:(?P<text>.*?)\]\]", re.DOTALL)
_HEADER_NAME = re.compile(r"[a-z0-9-]+")


class UnknownFaultError(ValueError):
    """The marker's text is outside the grammar; the message names the known faults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, with the grammar's defaults; durations are seconds, `None` leaves the model's own pace."""

    kind: Kind = "none"
    status: int = 500
    code: str | None = None
    body: str = "openai"
    headers: tuple[tuple[str, str], ...] = ()
    after: int = 0
    for_s: float = math.inf
    done: bool = False
    first_s: float | None = None
    each_s: float | None = None


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < math.inf:
        raise ValueError(text)
    return seconds


def _count(text: str) -> int:
    if (count := int(text)) < 0:
        raise ValueError(text)
    return count


def _status(text: str) -> int:
    if not 400 <= (status := int(text)) <= 599:
        raise ValueError(text)
    return status


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        return words[words.index(text)]

    return read


Reader = Callable[[str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How one kind is written: its words in order, and per name the field it sets and how it is read."""

    kind: Kind
    words: tuple[tuple[str, Reader], ...] = ()
    required: int = 0
    names: Mapping[str, tuple[str, Reader]]
    takes_headers: bool = False


_AFTER: Mapping[str, tuple[str, Reader]] = {"after": ("after", _count)}
_FOR: Mapping[str, tuple[str, Reader]] = {"for": ("for_s", _seconds)}
_DONE: Mapping[str, tuple[str, Reader]] = {"done": ("done", {"yes": True, "no": False}.__getitem__)}
_PACE: Mapping[str, tuple[str, Reader]] = {"first": ("first_s", _seconds), "each": ("each_s", _seconds)}
_BODY: Mapping[str, tuple[str, Reader]] = {"body": ("body", _one_of("openai", "html", "empty"))}

_FORMS = (
    _Form(kind="http", words=(("status", _status), ("code", str)), required=1, names=_BODY, takes_headers=True),
    _Form(kind="silent", names=_FOR),
    _Form(kind="stall", names={**_AFTER, **_FOR}),
    _Form(kind="cut", names=_AFTER),
    _Form(kind="end", names={**_AFTER, **_DONE}),
    _Form(kind="error", names={**_AFTER, "code": ("code", str)}),
    _Form(kind="garbage", names=_AFTER),
    _Form(kind="no-usage", names={}),
    _Form(kind="slow", names=_PACE),
)
FORMS: Mapping[str, _Form] = {form.kind: form for form in _FORMS}
KNOWN = ", ".join(FORMS)


def read_fault(question: str) -> Fault:
    """Return the fault that `question` asks for; of kind "none" when it holds no marker.

    Raises:
        UnknownFaultError: it holds a marker that the grammar does not allow.
    """
    found = _MARKER.search(question)
    if found is None:
        return Fault()
    try:
        return _parse(shlex.split(found["text"]))
    except (ValueError, KeyError, IndexError) as exc:
        raise UnknownFaultError(f"Unknown fault '{found['text'].strip()[:80]}'. Known faults: {KNOWN}.") from exc


def _parse(parts: list[str]) -> Fault:
    form = FORMS[parts[0]]
    words = [part for part in parts[1:] if "=" not in part]
    if not form.required <= len(words) <= len(form.words):
        raise ValueError(words)
    fields = {name: read(word) for (name, read), word in zip(form.words, words, strict=False)}
    headers: list[tuple[str, str]] = []
    for name, _, value in (part.partition("=") for part in parts[1:] if "=" in part):
        if name in form.names:
            field, read = form.names[name]
            fields[field] = read(value)
        else:
            headers.append(_header(form, name, value))
    return Fault(kind=form.kind, headers=tuple(headers), **fields)


def _header(form: _Form, name: str, value: str) -> tuple[str, str]:
    if not form.takes_headers or not _HEADER_NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
        raise ValueError(name)
    return name, value
