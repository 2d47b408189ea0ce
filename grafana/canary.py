"""Canary: the concurrent plan beside the sequential one, on the same turns."""

from typing import Final

from grafana.panels import SURFACE, Board, Levels, Link, Panel, Query, Row, stat
from grafana.promql import ANSWERED, COUNTED, FAILED, known, quantile, rate, ratio, rise

CHOSEN: Final = 'surface=~"$surface"'
CONCURRENT, SEQUENTIAL = 'plan="concurrent"', 'plan="sequential"'
TURN: Final = "chat_turn_duration_seconds"
TURNS: Final = f"{TURN}_count"
OVERHEAD: Final = "chat_turn_overhead_duration_seconds"
STAGE: Final = "chat_stage_duration_seconds"
WORSE: Final = Levels(amber=1.1, red=1.5)
COLOURS: Final = {
    "concurrent": "blue",
    "concurrent p50": "light-blue",
    "concurrent p95": "blue",
    "sequential": "orange",
    "sequential p50": "light-orange",
    "sequential p95": "orange",
}
FEW: Final = "One of few is a large share; and the first failure of a plan after a start is missing."
ROLL_BACK: Final = "`PUT /ops/rollout` with a lower percentage, or USE_OPTIMIZED_CHAT=false for good"
TRACES_OF_PLAN: Final = (
    Link(
        title="Failed turns of this plan",
        traceql='{ name = "chat.turn" && span.chat.plan = "${__field.labels.plan}" && status = error } |'
        " select(span.chat.outcome, span.error.type)",
    ),
)


def failed(plan: str) -> str:
    """Return the expression of the share of a plan's turns that were not answered."""
    return ratio(rate(TURNS, CHOSEN, plan, FAILED), rate(TURNS, CHOSEN, plan, COUNTED))


def compared(share: float, metric: str, *matchers: str, by: str = "") -> str:
    """Return the expression of the concurrent plan's quantile divided by the sequential one's."""
    of_plans = (known(quantile(share, metric, *matchers, plan, by=by)) for plan in (CONCURRENT, SEQUENTIAL))
    return " / ".join(f"({each})" for each in of_plans)


def _by_plan(metric: str, *matchers: str) -> tuple[Query, ...]:
    """Return the queries for each plan's half and tail."""
    half, tail = (quantile(share, metric, *matchers, ANSWERED, by="plan") for share in (0.5, 0.95))
    return Query(expr=half, legend="{{plan}} p50"), Query(expr=tail, legend="{{plan}} p95", exemplar=True)


AT_A_GLANCE: Final = Row(
    title="Concurrent against sequential: the last five minutes",
    panels=(
        stat(
            title="On the concurrent plan",
            shows="Share of turns that ended on the concurrent plan.",
            act="Compare with `GET /ops/rollout`: CHAT_CANARY_PERCENT and AGENT_CANARY_PERCENT are what it"
            ' should be. Less means that turns fell back: see "Turns that fell back to the sequential plan".',
            unit="percentunit",
            width=4,
            decimals=0,
            queries=(Query(expr=ratio(rate(TURNS, CHOSEN, CONCURRENT), rate(TURNS, CHOSEN))),),
        ),
        stat(
            title="Failed, concurrent",
            shows="Share of the concurrent plan's turns that were not answered, of all but refused and cancelled"
            f" ones. {FEW}",
            act=f'Compare with "Failed, sequential": if only this one fails, take turns off the plan: {ROLL_BACK}.',
            unit="percentunit",
            width=4,
            decimals=2,
            levels=Levels(amber=0.001),
            queries=(Query(expr=failed(CONCURRENT)),),
        ),
        stat(
            title="Failed, sequential",
            shows="The same for the sequential plan.",
            act='Look at dashboard "Turns" when both fail: then it is no matter of the plan.',
            unit="percentunit",
            width=4,
            decimals=2,
            levels=Levels(amber=0.001),
            queries=(Query(expr=failed(SEQUENTIAL)),),
            empty="no such turns",
        ),
        stat(
            title="Whole turn, p95: ratio",
            shows="The concurrent plan's p95 divided by the sequential one's: under 1 it is faster.",
            act=f'Find the stage in "Stages, p95: ratio"; if it stays over 1, take turns off the plan: {ROLL_BACK}.',
            unit="suffix: x",
            width=4,
            decimals=2,
            levels=WORSE,
            queries=(Query(expr=compared(0.95, TURN, CHOSEN, ANSWERED)),),
            empty="one plan only",
        ),
        stat(
            title="Overhead, p95: ratio",
            shows="The same for the time without the model's: what the plan is answerable for. The surface is"
            " not told apart.",
            act=f'Find the stage in "Stages, p95: ratio"; if it stays over 1, take turns off the plan: {ROLL_BACK}.',
            unit="suffix: x",
            width=4,
            decimals=2,
            levels=WORSE,
            queries=(Query(expr=compared(0.95, OVERHEAD, ANSWERED)),),
            empty="one plan only",
        ),
        stat(
            title="Fell back",
            shows="Turns in which the concurrent plan broke before the model was asked, over the time shown."
            " They were answered by the sequential plan, and count as its turns.",
            act=f"Read the log for plan.failed with its stack, and take turns off the plan: {ROLL_BACK}.",
            width=4,
            decimals=0,
            levels=Levels(amber=1, red=5),
            queries=(Query(expr=rise("chat_fallbacks_total", 'kind="plan"')),),
        ),
    ),
)

SIDE_BY_SIDE: Final = Row(
    title="Side by side",
    panels=(
        Panel(
            title="Turns by plan",
            shows="Turns a second that ended on each plan.",
            act="Compare with the percentages of `GET /ops/rollout`; CANARY_BY says whether users or turns are drawn.",
            unit="suffix: /s",
            queries=(Query(expr=rate(TURNS, CHOSEN, by="plan"), legend="{{plan}}"),),
            colours=COLOURS,
            stacked=True,
        ),
        Panel(
            title="Share that failed",
            shows=f"Share of each plan's turns that were not answered, of all but refused and cancelled ones. {FEW}",
            act=f"Take turns off the concurrent plan when only it fails: {ROLL_BACK}.",
            unit="percentunit",
            levels=Levels(amber=0.001, red=0.0144),
            queries=(
                Query(expr=failed(CONCURRENT), legend="concurrent"),
                Query(expr=failed(SEQUENTIAL), legend="sequential"),
            ),
            colours=COLOURS,
        ),
        Panel(
            title="Turns that fell back to the sequential plan",
            shows="Turns a second in which the concurrent plan broke before the model was asked.",
            act=f"Read the log for plan.failed with its stack, and take turns off the plan: {ROLL_BACK}.",
            unit="suffix: /s",
            queries=(Query(expr=rate("chat_fallbacks_total", 'kind="plan"'), legend="fell back"),),
            links=(
                Link(
                    title="Traces of turns that fell back",
                    traceql='{ name = "chat.turn" && span.chat.fallback = "plan" }',
                ),
            ),
        ),
        Panel(
            title="Whole turn by plan",
            shows="Half, and 19 of 20, of each plan's answered turns were faster. A dot is one turn.",
            act='Compare with "Overhead by plan": if the plans differ here alone, it is the model, not the plan. Else'
            " open a dot of each plan: stages that lie beside each other in one trace lie behind each other in the"
            " other.",
            unit="s",
            width=12,
            queries=_by_plan(TURN, CHOSEN),
            links=TRACES_OF_PLAN,
            colours=COLOURS,
        ),
        Panel(
            title="Overhead by plan",
            shows="A turn's time without the model's, in half and in 19 of 20 of each plan's answered turns. All"
            " surfaces.",
            act='Look at "Stages, p95: ratio" for the stage that makes the difference.',
            unit="s",
            width=12,
            levels=Levels(amber=0.5, red=1),
            queries=_by_plan(OVERHEAD),
            links=TRACES_OF_PLAN,
            colours=COLOURS,
        ),
    ),
)

RATIOS: Final = Row(
    title="As ratio: over 1, the concurrent plan is worse",
    panels=(
        Panel(
            title="Durations: ratio",
            shows="The concurrent plan's quantile divided by the sequential one's. Few turns make it jump.",
            act=f"Wait for some hundred turns of each plan; over 1 after that, take turns off the plan: {ROLL_BACK}.",
            unit="suffix: x",
            levels=WORSE,
            queries=(
                Query(expr=compared(0.5, TURN, CHOSEN, ANSWERED), legend="whole turn p50"),
                Query(expr=compared(0.95, TURN, CHOSEN, ANSWERED), legend="whole turn p95"),
                Query(expr=compared(0.5, OVERHEAD, ANSWERED), legend="overhead p50"),
                Query(expr=compared(0.95, OVERHEAD, ANSWERED), legend="overhead p95"),
            ),
        ),
        Panel(
            title="Failed turns: difference",
            shows="The concurrent plan's share of failed turns minus the sequential one's: over 0 it fails more often.",
            act=f"Take turns off the plan when it stays over 0: {ROLL_BACK}.",
            unit="percentunit",
            levels=Levels(amber=0.001, red=0.0144),
            queries=(Query(expr=f"({failed(CONCURRENT)}) - ({failed(SEQUENTIAL)})", legend="difference"),),
        ),
        Panel(
            title="Stages, p95: ratio",
            shows="The same for each stage that both plans have.",
            act="Look at the stage that is over 1. db_fetch and db_save: both plans have connections of their"
            ' own, see "Connections to the hosts" of dashboard "Process". llm.queue is shared, and should be'
            " equal.",
            unit="suffix: x",
            levels=WORSE,
            queries=(Query(expr=compared(0.95, STAGE, by="stage"), legend="{{stage}}"),),
        ),
    ),
)

BOARD: Final = Board(
    uid="nursery-canary",
    title="Canary",
    description="The concurrent plan beside the sequential one.",
    rows=(AT_A_GLANCE, SIDE_BY_SIDE, RATIOS),
    choices=(SURFACE,),
)
