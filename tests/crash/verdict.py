"""The verdict on what is left after the crashes: pure, over what clients asked and received, and the rows there are.

Rows are in the database, or set aside as superseded in an outbox, which is where an operator finds them.

The promise: an answer that a client received completely with `saved` other than "no" is there, once, as it was
received, and every reader that sorts by `(created_at, id)` reads each conversation as it was held. A question that was
sent several times under one key is one question: it has one turn. Two processes may both have answered it: an answer
that was promised to be in the outbox may have been set aside there, while another whole one of its turn is there. An
answer that is told to be `superseded` is no promise, but then a whole one is there too.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from app.turn import Saved, Sender

Kind = Literal["lost", "doubled", "wrong text", "wrong place", "wrong order", "stray"]
SENDERS: tuple[Sender, Sender] = ("user", "assistant")
WHOLE = {"stop", "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An answer that a client received whole."""

    turn_id: str
    conversation_id: str
    text: str
    saved: Saved
    superseded: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question that a client sent, its `number`th, once or again and again; no two questions have the same text.

    It `repeats` when it was sent until it was answered. `received` is None when no whole answer came back: then its
    rows may be there or not.
    """

    client: str
    number: int
    user_id: str
    page: str
    question: str
    repeats: bool = False
    received: Received | None = None

    @property
    def promised(self) -> Received | None:
        """What was received, if it was promised to be kept."""
        return self.received if self.received and self.received.saved != "no" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of `chat_logs`. `finish` is that of an answer."""

    id: int
    created_at: datetime
    turn_id: str
    sender: Sender
    user_id: str
    page: str
    conversation_id: str
    message: str
    finish: str | None = None

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> "Row":
        """Return a row as SQLite gives it."""
        read = {
            "created_at": datetime.fromisoformat(columns["created_at"]),
            "finish": columns["context_data"].get("finish"),
        }
        return cls(**{name: columns[name] for name in cls.__slots__ if name not in read}, **read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that must not be."""

    kind: Kind
    turn_id: str
    what: str


def verdict(asked: Sequence[Asked], rows: Sequence[Row], set_aside: Sequence[Row] = ()) -> tuple[Finding, ...]:
    """Return everything that must not be, in no order that matters; nothing, when the promise was kept.

    Args:
        rows: of the database.
        set_aside: of the outboxes, as superseded.
    """
    ordered = sorted(rows, key=lambda row: (row.created_at, row.id))
    rules = (
        _missing(asked, ordered, set_aside),
        _superseded(asked, ordered),
        _doubled(ordered),
        _places(asked, ordered),
        _order(asked, ordered),
        _strays(asked, ordered),
        _set_aside(ordered, set_aside),
    )
    return tuple(dict.fromkeys(finding for rule in rules for finding in rule))


def _missing(asked: Sequence[Asked], rows: Sequence[Row], set_aside: Sequence[Row]) -> Iterator[Finding]:
    """Each row of a kept answer is there, with its text; or another answer is there, and it is set aside.

    That the other one is whole is `_set_aside`'s to find.
    """
    there = {(row.turn_id, row.sender): row for row in rows}
    aside = {(row.turn_id, row.message) for row in set_aside if row.finish in WHOLE}
    for each in asked:
        if kept := each.promised:
            for sender, text in zip(SENDERS, (each.question, kept.text), strict=True):
                found = there.get((kept.turn_id, sender))
                if found is None:
                    yield Finding(
                        kind="lost", turn_id=kept.turn_id, what=f"{sender} of {each.question!r} ({kept.saved})"
                    )
                elif found.message != text:
                    may_be_aside = each.repeats and kept.saved == "outbox"
                    if may_be_aside and (kept.turn_id, text) in aside:
                        continue
                    kind: Kind = "lost" if each.repeats and sender == "assistant" else "wrong text"
                    what = f"{sender} ({kept.saved}): {found.message!r}, not {text!r}"
                    yield Finding(kind=kind, turn_id=kept.turn_id, what=what)


def _superseded(asked: Sequence[Asked], rows: Sequence[Row]) -> Iterator[Finding]:
    """Where an answer was told to be superseded, the question and a whole answer are there."""
    senders = {(row.turn_id, row.sender) for row in rows if row.sender == "user" or row.finish in WHOLE}
    for each in asked:
        if each.received and each.received.superseded:
            for sender in SENDERS:
                if (each.received.turn_id, sender) not in senders:
                    what = f"{sender} of {each.question!r}: superseded, but by nothing that is whole"
                    yield Finding(kind="lost", turn_id=each.received.turn_id, what=what)


def _doubled(rows: Sequence[Row]) -> Iterator[Finding]:
    """No turn has a row twice, and no question has two turns."""
    seen: set[tuple[str, Sender]] = set()
    turn_of: dict[str, str] = {}
    for row in rows:
        if (row.turn_id, row.sender) in seen:
            yield Finding(kind="doubled", turn_id=row.turn_id, what=row.sender)
        seen.add((row.turn_id, row.sender))
        if row.sender == "user" and turn_of.setdefault(row.message, row.turn_id) != row.turn_id:
            yield Finding(kind="doubled", turn_id=row.turn_id, what=f"{row.message!r} is {turn_of[row.message]} too")


def _places(asked: Sequence[Asked], rows: Sequence[Row]) -> Iterator[Finding]:
    """Rows are on the page and of the user that asked, and a user's page is one conversation."""
    by_question = {each.question: each for each in asked}
    by_turn = {row.turn_id: by_question.get(row.message) for row in rows if row.sender == "user"}
    conversations: dict[tuple[str, str], str] = {}
    for row in rows:
        each = by_turn.get(row.turn_id)
        if each is None:
            continue
        conversation = conversations.setdefault((each.user_id, each.page), row.conversation_id)
        if (row.user_id, row.page, row.conversation_id) != (each.user_id, each.page, conversation):
            yield Finding(kind="wrong place", turn_id=row.turn_id, what=f"{row.sender} of {each.question!r}")
        kept = each.promised
        if kept and kept.saved == "database" and kept.conversation_id != row.conversation_id:
            yield Finding(kind="wrong place", turn_id=row.turn_id, what=f"{row.sender}: not the conversation as told")


def _order(asked: Sequence[Asked], rows: Sequence[Row]) -> Iterator[Finding]:
    """On each page, a client's turns stand as it sent them, and in each the question comes before the answer."""
    position = {(row.turn_id, row.sender): number for number, row in enumerate(rows)}
    turn_of = {row.message: row.turn_id for row in rows if row.sender == "user"}
    for turns in _threads(asked).values():
        latest, before = -1, ""
        for each in turns:
            turn_id = turn_of.get(each.question, "")
            for sender in SENDERS:
                at = position.get((turn_id, sender), latest)
                if at < latest:
                    yield Finding(kind="wrong order", turn_id=turn_id, what=f"{sender} of {each.question!r}, {before}")
                else:
                    latest, before = at, f"after {sender} of {each.question!r}"


def _threads(asked: Sequence[Asked]) -> dict[tuple[str, str], list[Asked]]:
    threads: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    for each in sorted(asked, key=lambda each: each.number):
        threads[each.client, each.page].append(each)
    return threads


def _strays(asked: Sequence[Asked], rows: Sequence[Row]) -> Iterator[Finding]:
    """Nothing is there that nobody asked, and no answer without its question."""
    questions = {each.question for each in asked}
    turns = {row.turn_id for row in rows if row.sender == "user"}
    for row in rows:
        if row.sender == "user" and row.message not in questions:
            yield Finding(kind="stray", turn_id=row.turn_id, what=f"nobody asked {row.message!r}")
        if row.sender == "assistant" and row.turn_id not in turns:
            yield Finding(kind="stray", turn_id=row.turn_id, what=f"an answer without a question: {row.message!r}")


def _set_aside(rows: Sequence[Row], set_aside: Sequence[Row]) -> Iterator[Finding]:
    """Only what another whole answer has the place of is set aside: else it would stay there for ever, and unread."""
    there = {row.turn_id: row for row in rows if row.sender == "assistant"}
    for row in set_aside:
        if row.finish in WHOLE:
            stands = there.get(row.turn_id)
            if stands is None or stands.finish not in WHOLE:
                yield Finding(kind="lost", turn_id=row.turn_id, what=f"set aside for nothing whole: {row.message!r}")
            elif stands.message == row.message:
                yield Finding(kind="doubled", turn_id=row.turn_id, what=f"stored, and set aside: {row.message!r}")
