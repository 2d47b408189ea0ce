"""What is in the outbox's file, in memory, so that the looks that every turn takes cost no disk and no thread. Pure."""

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from types import MappingProxyType
from typing import TypeVar

from app.clients.ports import LogRow
from app.save.outbox_values import MAX_WINNERS, OutboxEntry
from app.standing import one_of_each_key

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Seen:
    """The index in numbers, at a moment. `oldest` is the position of what is delivered next, None when nothing is."""

    waiting: int
    set_aside: int
    oldest: int | None
    bytes: int


class OutboxIndex:
    """The entries by id, by user and by conversation; what waits comes in the order of delivery.

    A conversation that lost the race for its page is known by two ids; `winners` leads from the loser to the one that
    stands, and counts are kept under the latter. The loser's id may be that of a later conversation of the page, made
    by another process: a row of that one says that it `stands`.
    """

    def __init__(
        self, entries: Iterable[OutboxEntry] = (), winners: Mapping[uuid.UUID, uuid.UUID] = MappingProxyType({})
    ) -> None:
        self._entries: dict[int, OutboxEntry] = {}
        self._waiting: dict[int, int] = {}
        self._in_order = True
        self._of_user: dict[str, set[int]] = {}
        self._of_turn: dict[uuid.UUID, set[int]] = {}
        self._holding: Counter[uuid.UUID] = Counter()
        self._winners = dict(winners)
        self.newest = 0
        self.bytes = 0
        self.add(entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """How many entries are to be delivered."""
        return len(self._waiting)

    @property
    def winners(self) -> int:
        """How many conversations are known by another id than the one that stands."""
        return len(self._winners)

    def add(self, entries: Iterable[OutboxEntry]) -> None:
        """Take entries in."""
        for entry in entries:
            self._entries[entry.id] = entry
            self._of_user.setdefault(entry.row.user_id, set()).add(entry.id)
            self._of_turn.setdefault(entry.row.turn_id, set()).add(entry.id)
            self.bytes += entry.size
            if entry.reason is None:
                self._let_wait(entry)
            self.newest = max(self.newest, entry.position)

    def remove(self, ids: Collection[int]) -> None:
        """Forget the entries of these ids; one that is not there is nothing to forget."""
        for entry in [self._entries.pop(id_) for id_ in ids if id_ in self._entries]:
            self._stop_waiting(entry)
            self.bytes -= entry.size
            _take_out(self._of_user, entry.row.user_id, entry.id)
            _take_out(self._of_turn, entry.row.turn_id, entry.id)

    def set_aside(self, turns: Mapping[uuid.UUID, str]) -> None:
        """Let all entries of these turns wait no longer, for the reasons given."""
        for turn_id, reason in turns.items():
            for entry in self.of_turn(turn_id):
                self._stop_waiting(entry)
                self._entries[entry.id] = replace(entry, reason=reason)

    def take_back(self, turn_id: uuid.UUID) -> None:
        """Let all entries of a turn wait again, where they stood."""
        for entry in self.of_turn(turn_id):
            if entry.reason is not None:
                self._entries[entry.id] = waiting = replace(entry, reason=None)
                self._let_wait(waiting)

    def count_attempts(self, ids: Collection[int]) -> None:
        """Count one more attempt for each of these entries."""
        for id_ in ids:
            if entry := self._entries.get(id_):
                self._entries[id_] = replace(entry, attempts=entry.attempts + 1)

    def map_conversation(self, loser: uuid.UUID, winner: uuid.UUID) -> None:
        """Know a conversation by the id that stands from now on, which may be its own again."""
        self._winners.pop(loser, None)
        self._add_winners({loser: winner} if winner != loser else {})

    def add_winners(self, winners: Mapping[uuid.UUID, uuid.UUID]) -> None:
        """Know conversations by the ids that stand; one that is known by such an id already keeps that."""
        if winners:
            self._add_winners(winners)

    def _add_winners(self, winners: Mapping[uuid.UUID, uuid.UUID]) -> None:
        for loser, winner in winners.items():
            self._winners.setdefault(loser, winner)
        for loser in list(self._winners)[: max(0, len(self._winners) - MAX_WINNERS)]:
            del self._winners[loser]
        self._holding = Counter(self._entries[id_].conversation(self.resolve) for id_ in self._waiting)

    def resolve(self, conversation_id: uuid.UUID) -> uuid.UUID:
        """Return the id under which the conversation stands; its own unless it is known to have lost its page."""
        return self._winners.get(conversation_id, conversation_id)

    def holds(self, conversation_id: uuid.UUID) -> bool:
        """Return whether a row waits here for the conversation that stands under this id."""
        return conversation_id in self._holding

    def undelivered(self, user_id: str) -> tuple[LogRow, ...]:
        """Return the user's rows, those set aside too, in their order, under the conversations' ids that stand.

        Of rows of one key it is the one that will be in the database: the first, but a whole answer before one that was
        cut short.
        """
        found = sorted((self._entries[id_] for id_ in self._of_user.get(user_id, ())), key=_position)
        return tuple(one_of_each_key(map(self._resolved, found)))

    def of_turn(self, turn_id: uuid.UUID) -> tuple[OutboxEntry, ...]:
        """Return the entries of a turn."""
        return tuple(self._entries[id_] for id_ in self._of_turn.get(turn_id, ()))

    def entry(self, id_: int) -> OutboxEntry | None:
        """Return the entry of that id."""
        return self._entries.get(id_)

    def oldest(self) -> OutboxEntry | None:
        """Return the entry that is to be delivered next."""
        self._sort()
        return self._entries[next(iter(self._waiting))] if self._waiting else None

    def seen(self) -> Seen:
        """Return how it is now."""
        oldest = self.oldest()
        return Seen(self.waiting, len(self) - self.waiting, oldest.position if oldest else None, self.bytes)

    def entries(self, limit: int) -> tuple[OutboxEntry, ...]:
        """Return the first `limit` entries in their order, those set aside too."""
        return tuple(sorted(self._entries.values(), key=_position)[:limit])

    def batch(self, max_rows: int, max_bytes: int, last: Collection[uuid.UUID] = ()) -> tuple[OutboxEntry, ...]:
        """Return what is to be delivered next: one entry at least, unless none waits.

        Entries of the conversations in `last` come behind those of all others.
        """
        self._sort()
        found: list[OutboxEntry] = []
        room = max_bytes
        for entry in self._in_turn(last):
            room -= entry.size
            if len(found) == max_rows or (found and room < 0):
                break
            found.append(entry)
        return tuple(found)

    def _in_turn(self, last: Collection[uuid.UUID]) -> Iterator[OutboxEntry]:
        behind = []
        for entry in map(self._entries.__getitem__, self._waiting):
            if entry.conversation(self.resolve) in last:
                behind.append(entry)
            else:
                yield entry
        yield from behind

    def _let_wait(self, entry: OutboxEntry) -> None:
        self._in_order = self._in_order and entry.position > self.newest
        self._waiting[entry.id] = entry.position
        self._holding[entry.conversation(self.resolve)] += 1

    def _stop_waiting(self, entry: OutboxEntry) -> None:
        if self._waiting.pop(entry.id, None) is None:
            return
        conversation = entry.conversation(self.resolve)
        self._holding[conversation] -= 1
        if not self._holding[conversation]:
            del self._holding[conversation]

    def _sort(self) -> None:
        if not self._in_order:
            self._waiting = dict(sorted(self._waiting.items(), key=itemgetter(1, 0)))
            self._in_order = True

    def _resolved(self, entry: OutboxEntry) -> LogRow:
        conversation = entry.conversation(self.resolve)
        return (
            entry.row if conversation == entry.row.conversation_id else replace(entry.row, conversation_id=conversation)
        )


def _position(entry: OutboxEntry) -> tuple[int, int]:
    return (entry.position, entry.id)


def _take_out(index: dict[K, set[int]], key: K, id_: int) -> None:
    index[key].discard(id_)
    if not index[key]:
        del index[key]
