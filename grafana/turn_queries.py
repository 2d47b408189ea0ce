"""What the panels of dashboard Turns ask for: metrics, the two goals, and the searches that their links make."""

from typing import Final

from grafana.panels import Levels, Link
from grafana.promql import ALL_COUNTED, ALL_SLOW, ALL_UNANSWERED, SHOWN, rate, ratio, rise

OF_PLAN: Final = 'plan=~"$plan"'
CHOSEN: Final = (OF_PLAN, 'surface=~"$surface"')
TURN: Final = "chat_turn_duration_seconds"
TURNS: Final = f"{TURN}_count"
OVERHEAD: Final = "chat_turn_overhead_duration_seconds"
STAGE: Final = "chat_stage_duration_seconds"
FIRST_TOKEN: Final = "chat_turn_time_to_first_token_seconds"  # noqa: S105  # no password: a histogram
MODEL: Final = "gen_ai_client_operation_duration_seconds"
FIRST_CHUNK: Final = "gen_ai_client_operation_time_to_first_chunk_seconds"
ANSWERED_GOAL, OVERHEAD_GOAL = 0.999, 0.99
FEW_UNANSWERED, FEW_SLOW = 5, 30
"""So many bad turns are needed for an alert: one bad turn of a quiet night is a large share."""
EVALUATED: Final = "1m"
"""How seldom the rules may be evaluated."""
RECORDED: Final = "All plans and surfaces, as the rules of `grafana/alerts` record them."
BURN: Final = Levels(amber=1, red=6)
"""At 1 the budget lasts just as long as it has to; 6 wakes somebody (The Site Reliability Workbook, chapter 5)."""
FOUND_BY_STAGE: Final = (
    Link(
        title="Traces in which this stage failed",
        traceql='{ name = "chat.turn" } >> { name = "${__field.labels.stage}" && status = error }',
    ),
    Link(
        title="Traces in which the model's call failed",
        traceql='{ name = "chat.turn" } >> { span.gen_ai.operation.name = "chat" && status = error }',
    ),
)
FOUND_BY_OUTCOME: Final = (
    Link(
        title="Traces with this outcome",
        traceql='{ name = "chat.turn" && span.chat.outcome = "${__field.labels.outcome}" } |'
        " select(span.error.type, span.chat.plan, span.chat.surface)",
    ),
)


def answered(window: str) -> str:
    """Return the expression of the share of turns that were answered."""
    return f"1 - ({_share(ALL_UNANSWERED, window)})"


def under_a_second(window: str) -> str:
    """Return the expression of the share of turns that took a second at most, the model's own time apart."""
    return f"1 - ({_share(ALL_SLOW, window)})"


def burn(bad: str, goal: float, few: int) -> str:
    """Return the expression of how many times too fast a goal's budget is spent; 0 with less than `few` bad turns."""
    speed = f"({_share(bad, SHOWN)}) / (1 - {goal})"
    return f"{speed} and ({rise(bad)}) >= {few} or 0 * {speed}"


def _share(bad: str, window: str) -> str:
    return ratio(rate(bad, window=window), rate(ALL_COUNTED, window=window))
