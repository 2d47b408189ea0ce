"""What a server says, case by case: some requests, and for each the pieces of the answer and how the server ends."""

from dataclasses import dataclass
from typing import Literal

Ending = Literal["open", "eof", "reset"]
"""After the answer the server waits for more, closes, or resets the connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The pieces of what the server says to one request.

    `deaf`: the server takes nothing of the request, but answers all the same. `proper`: the bytes are those of an
    ordinary response and nothing was done to them, so that every difference is a fault.
    """

    pieces: tuple[bytes, ...]
    ending: Ending = "open"
    deaf: bool = False
    proper: bool = False

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Case:
    """Requests to one origin, one after the other, and what is answered to each, on whatever connection it comes.

    `again`: the answer to a request that comes a second time, on another connection. `short_sends`: the first send of a
    request takes only half of it.
    """

    seed: int
    methods: tuple[str, ...]
    answers: tuple[Answer, ...]
    again: Answer
    short_sends: bool = False

    def __str__(self) -> str:
        said = (
            f"  {method}: {list(answer.pieces)!r}, then {answer.ending}{', deaf' if answer.deaf else ''}"
            for method, answer in zip(self.methods, self.answers, strict=True)
        )
        return "\n".join([f"seed {self.seed}", *said])
