"""What ends turns on a server with short deadlines and no outbox; one after the other, in this order."""

from tests.server.outcomes.cases import ANSWER, ASKED, READ, SAVED, SPOKE, WHOLE, Case, ask, fault, in_mood
from tests.server.outcomes.trace_judge import CHAT, Turn
from tests.server.process import AT_ONCE

TOO_SLOW = "slow first=0.1 each=0.1"
"""Of an answer: it takes longer than `LLM_TIMEOUT`, though no token is late."""


def _timed_out(stage: str, *, events: tuple[str, ...] = SPOKE) -> Turn:
    return Turn(
        tree=WHOLE,
        outcome="timeout",
        error=f"timeout.{stage}",
        failed={CHAT: f"timeout.{stage}"},
        events=events,
        finish="error",
        status=504,
    )


HASTY: dict[str, Case] = {
    "timeout: db_fetch": Case(
        act=in_mood("GET chat_conversations", "silent", ask("Hello", "unread")),
        turns=(
            Turn(
                tree=READ,
                outcome="timeout",
                error="timeout.db_fetch",
                failed={"db_fetch": "timeout.db_fetch", "db_fetch/fetch.conversation": "cancelled"},
                finish=None,
                known=False,
                status=504,
            ),
        ),
    ),
    "timeout: first token": Case(act=fault("silent", "silent"), turns=(_timed_out("llm.first_token", events=()),)),
    "timeout: between tokens": Case(act=fault("stalls", "stall after=3"), turns=(_timed_out("llm.idle"),)),
    "timeout: the model": Case(act=fault("slow", TOO_SLOW), turns=(_timed_out("llm"),)),
    "timeout: the turn": Case(
        act=in_mood("GET chat_conversations", 0.8, fault("slow", TOO_SLOW)),
        turns=(
            Turn(
                tree=(*READ, *ASKED, "save.user", "save.user/POST", *ANSWER),
                outcome="timeout",
                error="timeout.chat.turn",
                failed={CHAT: "cancelled"},
                events=SPOKE,
                finish="error",
                status=504,
            ),
        ),
    ),
    "timeout: db_save": Case(
        act=in_mood("POST chat_logs", "silent", ask(f"Hello {AT_ONCE}", "unsaved")),
        turns=(
            Turn(
                tree=WHOLE,
                outcome="degraded",
                failed={"save.user": "timeout.save.user", "db_save": "timeout.db_save"},
                says={"db_save": SAVED},
                events=SPOKE,
                warnings=("save_failed",),
                finish=None,
            ),
        ),
    ),
}
