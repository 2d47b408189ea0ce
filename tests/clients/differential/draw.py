"""A case from its seed: the same seed gives the same case."""

from random import Random

from tests.clients.differential import grammar, mutation
from tests.clients.differential.script import Answer, Case, Ending

METHODS = ("GET", "GET", "GET", "POST", "POST", "HEAD")
AGAIN = Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain",), "open", proper=True)
SHARE_PROPER = 0.35
SHARE_UNASKED = 0.05
"""Answers after which something comes that nobody asked for, in a piece of its own."""
RECEIVE_BYTES = 1 << 16
"""What both transports read at once: no piece may be longer."""


def case(seed: int) -> Case:
    """Return the case of `seed`."""
    rng = Random(seed)
    methods = tuple(rng.choice(METHODS) for _ in range(rng.choice((1, 1, 2, 2, 3))))
    answers = tuple(answer(rng, method) for method in methods)
    return Case(seed, methods, answers, AGAIN, short_sends=rng.random() < 0.1)


def answer(rng: Random, method: str) -> Answer:
    """Return an answer to `method`, a proper one or not."""
    if rng.random() < 0.03:
        return Answer((), rng.choice(("eof", "reset")), deaf=rng.random() < 0.3)
    raw = grammar.response(rng, method)
    proper = rng.random() < SHARE_PROPER
    if not proper:
        raw = mutation.mutate(rng, raw)
    pieces = split(rng, raw)
    if rng.random() < SHARE_UNASKED:
        pieces += (rng.choice(mutation.AFTER),)
    return Answer(pieces, ending(rng), deaf=rng.random() < 0.03, proper=proper)


def ending(rng: Random) -> Ending:
    """Return how the server ends."""
    return rng.choice(("open", "open", "open", "eof", "eof", "reset"))


def split(rng: Random, raw: bytes) -> tuple[bytes, ...]:
    """Cut `raw` into pieces: one, a head and the rest, a few, or single bytes."""
    how = rng.random()
    if how < 0.35:
        cuts = []
    elif how < 0.5:
        cuts = [raw.find(b"\r\n\r\n") + 4]
    elif how < 0.95 or len(raw) > 300:
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(1, 6)))
    else:
        cuts = list(range(1, len(raw)))
    pieces = (raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True))
    return tuple(piece[at : at + RECEIVE_BYTES] for piece in pieces for at in range(0, len(piece), RECEIVE_BYTES))
