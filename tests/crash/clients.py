"""The clients of a run: they ask, leave, ask again, and write down what they hold."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf

import httpx
import trio

from tests.crash.asking import OddityError, Question, is_whole, make_question, received, refused
from tests.crash.plan import ClientPlan, Plan
from tests.crash.posting import posted
from tests.crash.servers import Server
from tests.crash.verdict import Asked, Received

AFTER_REFUSAL_S = 0.01
LONGEST_WAIT_S = 0.02
"""Whatever a server asks for: a run is short."""
LONGEST_LAST_WAIT_S = 0.5
"""For the last turn there is time: on a busy machine, who asks all the time is why nobody is answered in time."""


class Clients:
    """All clients of a run, and what they wrote down.

    `oddities` are answers that they cannot explain; `met` counts what they met; `waiting_for` has the questions that
    they still ask, each with what was last heard of it.

    Args:
        servers: any of them is asked that is up.
        holds: is told of each answer in the moment in which a client holds it.
    """

    def __init__(
        self, plan: Plan, servers: Sequence[Server], http: httpx.AsyncClient, holds: Callable[[Received], None]
    ) -> None:
        self.oddities: list[str] = []
        self.met: Counter[str] = Counter()
        self.waiting_for: dict[str, str] = {}
        self._plan = plan
        self._servers = servers
        self._http = http
        self._holds = holds
        self._asked: dict[str, Asked] = {}
        self._pending: dict[str, Question] = {}

    @property
    def asked(self) -> list[Asked]:
        """What all of them have asked so far, each question once."""
        return list(self._asked.values())

    async def act(self, client: ClientPlan, until: float) -> None:
        """Have a client ask one question after the other until that time."""
        draw = random.Random(f"{self._plan.seed} {client.name}")
        while trio.current_time() < until:
            question = make_question(self._plan.seed, client, self._count(client))
            answer = await self._ask(question, draw, until)
            await trio.sleep(draw.uniform(0, client.pause_s) + (0 if answer else AFTER_REFUSAL_S))

    async def last_turn(self, client: ClientPlan) -> None:
        """Have a client ask until an answer of its is kept; one that repeats gets that of its last question first."""
        draw = random.Random(f"{self._plan.seed} {client.name} last")
        wait_s = AFTER_REFUSAL_S
        if client.name in self._pending:
            await self._ask(self._pending.pop(client.name), draw)
        while True:
            answer = await self._ask(make_question(self._plan.seed, client, self._count(client)), draw)
            if answer and answer.saved != "no":
                return
            await trio.sleep(draw.uniform(0.5, 1) * wait_s)  # the breaker may still be open
            wait_s = min(2 * wait_s, LONGEST_LAST_WAIT_S)

    def _count(self, client: ClientPlan) -> int:
        return sum(each.client == client.name for each in self._asked.values())

    async def _ask(self, question: Question, draw: random.Random, until: float | None = None) -> Received | None:
        """Ask, again and again if the client does that, and return the answer, if there is one before its time is over.

        Without `until` a client has time, and patience.
        """
        patience_s = None if until is None else question.client.patience_s
        at_least_s = 0.0 if until is not None else AFTER_REFUSAL_S
        self._write_down(question)
        while True:
            self.waiting_for.setdefault(question.key, "nothing")
            wait_s = await self._try(question, draw, inf if patience_s is None else patience_s)
            answer = self._asked[question.key].received
            if answer or not question.client.repeats:
                del self.waiting_for[question.key]
                return answer
            if until is not None and trio.current_time() >= until:
                self._pending[question.client.name] = question
                return None
            self.met["asked again"] += 1
            await trio.sleep(max(wait_s, draw.uniform(0.5, 1) * at_least_s))
            at_least_s = min(2 * at_least_s, LONGEST_LAST_WAIT_S)
            patience_s = patience_s and patience_s * 2

    def _write_down(self, question: Question, answer: Received | None = None) -> None:
        client = question.client
        self._asked[question.key] = Asked(
            client=client.name, number=question.number, user_id=client.user_id, page=question.page,
            question=question.text, repeats=client.repeats, received=answer,
        )  # fmt: skip

    async def _try(self, question: Question, draw: random.Random, patience_s: float) -> float:
        """Ask once, and return the seconds after which the client asks again, if it does and has no answer."""
        server = draw.choice([server for server in self._servers if server.url] or self._servers)
        await server.up.wait()
        with trio.move_on_after(draw.uniform(0.5, 1.5) * patience_s):
            try:
                async with posted(self._http, server.url + question.path, question.body, question.headers) as response:
                    return await self._read(question, response)
            except httpx.TransportError as exc:  # killed
                self.waiting_for[question.key] = repr(exc)
                return AFTER_REFUSAL_S
            except OddityError as odd:
                self.oddities.append(f"{question.client.name}: {odd}")
                return AFTER_REFUSAL_S
        self.met["left"] += 1
        return 0.0

    async def _read(self, question: Question, response: httpx.Response) -> float:
        """Read a response to its end, which need not come any more once a stream is whole."""
        text = ""
        try:
            async for piece in response.aiter_text():
                text += piece
                if is_whole(text):
                    self._take(question, text)
        except httpx.TransportError:
            if not is_whole(text):
                raise
        if response.status_code == 200:
            self._take(question, text)
            return AFTER_REFUSAL_S
        self.waiting_for[question.key] = text
        self.met[str(response.status_code)] += 1
        wait_s = refused(question, response.status_code, response.headers, text)
        return min(max(wait_s, AFTER_REFUSAL_S), LONGEST_WAIT_S)

    def _take(self, question: Question, text: str) -> None:
        """Write down the answer that is in what was read whole, if one is, and tell that its client holds it."""
        if self._asked[question.key].received is not None:
            return
        answer = received(question, text)
        if answer is not None:
            self._write_down(question, answer)
            self._holds(answer)
            self.met[f"answered {question.client.way}"] += 1
            self.met["superseded"] += answer.superseded
            self.met["given again"] += answer.replayed
