"""Rows of dashboard Turns: how long turns took, in which stage, and how that stands to the goals."""

from typing import Final

from grafana.panels import OUTCOME_COLOURS, Levels, Panel, Query, Row
from grafana.promql import ANSWERED, COUNTED, WINDOW, quantile, rate
from grafana.turn_queries import (
    ANSWERED_GOAL,
    CHOSEN,
    EVALUATED,
    FOUND_BY_OUTCOME,
    FOUND_BY_STAGE,
    OF_PLAN,
    OVERHEAD,
    OVERHEAD_GOAL,
    RECORDED,
    STAGE,
    TURN,
    answered,
    under_a_second,
)

DURATIONS: Final = Row(
    title="How long they took",
    panels=(
        Panel(
            title="Whole turn, answered",
            shows="The time from admission to the end of answered turns: half, 19 of 20, 99 of 100 were faster."
            " A dot is one turn; its trace id leads to the trace.",
            act='Open a dot at the top and read its trace from the left; without one, "Slow turns" below.',
            unit="s",
            queries=(
                Query(expr=quantile(0.5, TURN, *CHOSEN, ANSWERED), legend="p50"),
                Query(expr=quantile(0.95, TURN, *CHOSEN, ANSWERED), legend="p95", exemplar=True),
                Query(expr=quantile(0.99, TURN, *CHOSEN, ANSWERED), legend="p99"),
            ),
            levels=Levels(amber=15, red=30),
        ),
        Panel(
            title="Whole turn by outcome, p95",
            shows="The same, for each outcome. Timeouts lie at the deadline that they ran into.",
            act="Compare a timeout's height with the settings LLM_FIRST_TOKEN_TIMEOUT, LLM_TIMEOUT and"
            ' TURN_TIMEOUT: it says which deadline it was. Look at "Stages that did not end well" to be sure.',
            unit="s",
            queries=(Query(expr=quantile(0.95, TURN, *CHOSEN, by="outcome"), legend="{{outcome}}"),),
            links=FOUND_BY_OUTCOME,
            colours=OUTCOME_COLOURS,
        ),
        Panel(
            title="Whole turn by plan and surface, p95",
            shows="The same for answered turns, for each plan and surface.",
            act='Open dashboard "Canary" when the plans differ. When agent turns alone are slow, look for'
            ' agent.* in "Stages, p95".',
            unit="s",
            queries=(
                Query(expr=quantile(0.95, TURN, *CHOSEN, ANSWERED, by="plan, surface"), legend="{{plan}} {{surface}}"),
            ),
        ),
    ),
)

STAGES: Final = Row(
    title="Where the time went",
    panels=(
        Panel(
            title="Stages, p50",
            shows="What each stage takes in an ordinary turn. llm is all attempts at the model; save.user runs"
            " beside it.",
            act='Compare with "Stages, p95": a stage that is slow here too is slow for everybody, not for a few.',
            unit="s",
            queries=(Query(expr=quantile(0.5, STAGE, OF_PLAN, by="stage"), legend="{{stage}}", exemplar=True),),
        ),
        Panel(
            title="Stages, p95",
            shows="What each stage takes in one turn of 20. A dot is one turn's stage; its trace id leads to"
            " the trace.",
            act='Look which stage grew. db_fetch: run `python -m app doctor` and look at "Connections to the'
            ' hosts" of dashboard "Process"; fetch.project alone: its table or its index. llm.queue: dashboard'
            ' "Limiter". llm: "Model calls, p95". db_save: dashboard "Data safety".',
            unit="s",
            queries=(Query(expr=quantile(0.95, STAGE, OF_PLAN, by="stage"), legend="{{stage}}", exemplar=True),),
        ),
        Panel(
            title="Stages that did not end well",
            shows="Stages a second that ended in another way than ok. One may fail in a turn that is answered"
            " all the same.",
            act="Follow a curve's link to its traces. A timeout of a stage is its setting: DB_FETCH_TIMEOUT,"
            " LLM_QUEUE_TIMEOUT, LLM_TIMEOUT, DB_SAVE_TIMEOUT.",
            unit="suffix: /s",
            queries=(
                Query(
                    expr=rate(f"{STAGE}_count", OF_PLAN, 'outcome!="ok"', by="stage, outcome"),
                    legend="{{stage}} {{outcome}}",
                ),
            ),
            links=FOUND_BY_STAGE,
        ),
    ),
)

GOALS: Final = Row(
    title="The goals",
    panels=(
        Panel(
            title="Share answered",
            shows=f"Answered turns of all but refused and cancelled ones. Goal: 99.9 %. {RECORDED}",
            act='Look at "Failed turns by outcome" at the same time; restarts are the blue lines.',
            unit="percentunit",
            levels=Levels(amber=ANSWERED_GOAL, red=0.986, low_is_bad=True),
            queries=(Query(expr=answered(WINDOW), legend="answered", step=EVALUATED),),
        ),
        Panel(
            title="Share with an overhead under 1 s",
            shows="Turns that took a second at most apart from the model, of all but refused and cancelled"
            f" ones. Goal: 99 %. {RECORDED}",
            act='Look at "Stages, p95" at the same time: every stage but llm counts here.',
            unit="percentunit",
            levels=Levels(amber=OVERHEAD_GOAL, red=0.86, low_is_bad=True),
            queries=(Query(expr=under_a_second(WINDOW), legend="under 1 s", step=EVALUATED),),
        ),
        Panel(
            title="Overhead",
            shows="A turn's time without the model's: reading, waiting for the model's queue, saving, and all"
            " that is ours.",
            act="Open a dot at the top and read its trace: what is not the model's span is this. When no stage"
            ' explains it, look at "Loop lag" of dashboard "Process".',
            unit="s",
            levels=Levels(amber=0.5, red=1),
            queries=(
                Query(expr=quantile(0.5, OVERHEAD, OF_PLAN, COUNTED), legend="p50"),
                Query(expr=quantile(0.95, OVERHEAD, OF_PLAN, COUNTED), legend="p95", exemplar=True),
                Query(expr=quantile(0.99, OVERHEAD, OF_PLAN, COUNTED), legend="p99"),
            ),
        ),
    ),
)

ROWS: Final = (DURATIONS, STAGES, GOALS)
