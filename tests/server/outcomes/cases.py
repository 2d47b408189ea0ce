"""What a case is, and what most have in common: the paths of their spans, and how to ask for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.server.outcomes.house import House
from tests.server.outcomes.trace_judge import CHAT, Turn

AGENT = "/conversation-agent/chat"
STREAM = "/chat/stream"

READ = ("db_fetch", "db_fetch/fetch.conversation", "db_fetch/fetch.conversation/GET")
FETCH = (*READ, "db_fetch/fetch.conversation/GET")  # which of the page's ids is free
PROJECT = ("db_fetch/fetch.project", "db_fetch/fetch.project/GET")
EARLIER = ("db_fetch/fetch.earlier", "db_fetch/fetch.earlier/GET")
ASKED = ("llm.queue", CHAT, f"{CHAT}/POST")
QUESTION = ("save.user", "save.user/POST", "save.user/POST")  # the conversation, then the row
ANSWER = ("db_save", "db_save/POST")
WHOLE = (*FETCH, *ASKED, *QUESTION, *ANSWER)
RULES = ("agent", "agent/agent.state", "agent/agent.plan", "agent/agent.support_type", "agent/agent.acts")
BY_RULES = (*FETCH, *RULES, "agent/agent.reply", *QUESTION, *ANSWER)
REPLY = ("agent/llm.queue", "agent/agent.reply", f"agent/agent.reply/{CHAT}", f"agent/agent.reply/{CHAT}/POST")
STUDY = (f"agent/{CHAT}", f"agent/{CHAT}/POST")
BY_MODEL = (*FETCH, *RULES, *REPLY, *STUDY, *QUESTION, *ANSWER)

FRESH = {"chat.history.count": 0, "chat.context.present": False}
SAVED = {"save.mode": "await", "save.deferred": False}
FREE = {"limiter.total": 10, "limiter.waiting": 0, "queue.position": 0}
SPOKE = ("first_chunk",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is done, and the turns that come of it, in the order in which they end."""

    act: Callable[[House], Any]
    turns: tuple[Turn, ...]
    rejected: Mapping[str, int] | None = field(default_factory=dict)
    """Attempts at a model call that failed, by code; None where that is not certain."""
    outlives: bool = True


def ask(message: str, page: str, **fields: Any) -> Callable[[House], Any]:
    return lambda house: house.ask(message, page, **fields)


def in_mood(kind: str, mood: str | float, act: Callable[[House], Any]) -> Callable[[House], Any]:
    def acted(house: House) -> Any:
        with house.moods.of(kind, mood):
            return act(house)

    return acted


def fault(page: str, kind: str, **fields: Any) -> Callable[[House], Any]:
    return ask(f"Well? [[fault: {kind}]]", page, **fields)
