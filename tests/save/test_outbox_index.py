"""The index in memory against a plain list of entries, whatever is done to both."""

import uuid
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from app.clients.ports import LogRow
from app.save.outbox_index import OutboxIndex
from app.save.outbox_values import OutboxEntry
from tests.save.outbox_rows import log_row, names

USERS = ("ann", "bob")
CONVERSATIONS = [uuid.UUID(int=number) for number in range(4)]


def entry(
    id_: int,
    position: int,
    turn: int,
    conversation: int,
    user: str,
    sender: str = "user",
    finish: str = "stop",
    *,
    stands: bool = False,
) -> OutboxEntry:
    context = {"finish": finish}
    row = log_row(turn, sender, conversation, user_id=user, message=f"row {id_}", context_data=context)
    return OutboxEntry(id=id_, position=position, row=row, title=None, size=10 + id_, stands=stands)


class Plain:
    """The same as the index, without any index."""

    def __init__(self) -> None:
        self.entries: list[OutboxEntry] = []
        self.winners: dict[uuid.UUID, uuid.UUID] = {}

    def resolve(self, conversation_id: uuid.UUID) -> uuid.UUID:
        return self.winners.get(conversation_id, conversation_id)

    def conversation(self, entry: OutboxEntry) -> uuid.UUID:
        return entry.row.conversation_id if entry.stands else self.resolve(entry.row.conversation_id)

    def change(self, turn_id: uuid.UUID, reason: str | None) -> None:
        self.entries = [
            replace(entry, reason=reason) if entry.row.turn_id == turn_id else entry for entry in self.entries
        ]

    def in_order(self) -> list[OutboxEntry]:
        return sorted(self.entries, key=lambda entry: (entry.position, entry.id))

    def rows_of(self, user: str) -> list[LogRow]:
        """Return a row for each key, in the order of the first ones: a whole answer if there is one, else the first."""
        mine = [
            replace(entry.row, conversation_id=self.conversation(entry))
            for entry in self.in_order()
            if entry.row.user_id == user
        ]
        found = []
        for key in dict.fromkeys(row.key for row in mine):
            same = [row for row in mine if row.key == key]
            whole = [row for row in same if row.sender == "assistant" and row.context_data["finish"] == "stop"]
            found.append([*whole, *same][0])
        return found

    def waiting(self) -> list[OutboxEntry]:
        return [entry for entry in self.in_order() if entry.reason is None]


def check(index: OutboxIndex, plain: Plain) -> None:
    """Compare every answer that the index gives."""
    waiting = plain.waiting()
    assert (len(index), index.waiting) == (len(plain.entries), len(waiting))
    assert index.bytes == sum(entry.size for entry in plain.entries)
    assert list(index.entries(100)) == plain.in_order()
    assert list(index.batch(100, 10**6)) == waiting
    for id_ in CONVERSATIONS:
        behind = sorted(waiting, key=lambda entry: plain.conversation(entry) == id_)
        assert list(index.batch(100, 10**6, {id_})) == behind
    assert index.oldest() == (waiting[0] if waiting else None)
    held = {plain.conversation(entry) for entry in waiting}
    for id_ in CONVERSATIONS:
        assert index.resolve(id_) == plain.resolve(id_)
        assert index.holds(id_) == (id_ in held)
    for user in USERS:
        assert index.undelivered(user) == tuple(plain.rows_of(user))


def add(index: OutboxIndex, plain: Plain, id_: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, 20))
    new = entry(
        id_,
        position,
        data.draw(st.integers(0, 5)),
        data.draw(st.integers(0, 3)),
        data.draw(st.sampled_from(USERS)),
        data.draw(st.sampled_from(["user", "assistant"])),
        data.draw(st.sampled_from(["stop", "cancelled"])),
        stands=data.draw(st.booleans()),
    )
    index.add([new])
    plain.entries.append(new)


def apply(index: OutboxIndex, plain: Plain, step: str, id_: int, data: st.DataObject) -> None:
    turn = uuid.UUID(int=data.draw(st.integers(0, 5)))
    some = set(data.draw(st.lists(st.integers(0, 30), max_size=4)))
    if step == "add":
        add(index, plain, id_, data)
    elif step == "remove":
        index.remove(some)
        plain.entries = [entry for entry in plain.entries if entry.id not in some]
    elif step == "set aside":
        index.set_aside({turn: "22P02"})
        plain.change(turn, "22P02")
    elif step == "take back":
        index.take_back(turn)
        plain.change(turn, None)
    elif step == "attempt":
        index.count_attempts(some)
        plain.entries = [
            replace(entry, attempts=entry.attempts + 1) if entry.id in some else entry for entry in plain.entries
        ]
    else:
        loser, winner = data.draw(st.sampled_from(CONVERSATIONS)), data.draw(st.sampled_from(CONVERSATIONS))
        index.map_conversation(loser, winner)
        plain.winners.pop(loser, None)
        plain.winners |= {loser: winner} if loser != winner else {}


STEPS = st.sampled_from(["add", "add", "add", "remove", "set aside", "take back", "attempt", "map"])


@given(st.data())
def test_the_index_answers_like_a_plain_list(data: st.DataObject) -> None:
    """Whatever happens in whatever order, positions out of order included, every look is right after every step."""
    index, plain = OutboxIndex(), Plain()
    for id_, step in enumerate(data.draw(st.lists(STEPS, max_size=15)), 1):
        apply(index, plain, step, id_, data)
        check(index, plain)
    again = OutboxIndex(plain.entries, plain.winners)
    check(again, plain)
    check_left_over(index)


def check_left_over(index: OutboxIndex) -> None:
    """Emptied, the index holds nothing that could grow for ever."""
    index.remove([entry.id for entry in index.entries(100)])
    left = {name: value for name, value in sizes(index) if name != "_winners"}
    assert set(left.values()) == {0}, left


def sizes(index: OutboxIndex) -> Iterator[tuple[str, int]]:
    for name, value in vars(index).items():
        if isinstance(value, dict):
            yield name, len(value)


def test_what_is_taken_back_stands_where_it_stood() -> None:
    """Also among entries that two processes queued in the same microsecond: the order is the same after a restart."""
    index = OutboxIndex([entry(1, 7, 1, 0, "ann")])
    index.set_aside({uuid.UUID(int=1): "22P02"})
    index.add([entry(2, 7, 2, 0, "ann")])
    index.take_back(uuid.UUID(int=1))
    assert names(index.batch(9, 1000)) == ["row 1", "row 2"]


def test_a_batch_is_bounded_by_rows_and_by_bytes() -> None:
    """It ends before the row that would be too much; a row that is too much alone goes alone."""
    index = OutboxIndex([replace(entry(id_, id_, id_, 0, "ann"), size=40) for id_ in range(1, 10)])
    assert names(index.batch(3, 1000)) == ["row 1", "row 2", "row 3"]
    assert names(index.batch(9, 100)) == ["row 1", "row 2"]
    assert names(index.batch(9, 10)) == ["row 1"]
    assert OutboxIndex().batch(3, 100) == ()
