"""Turns: how many, how they ended, how long they took, and in which stage the time went."""

from typing import Final

from grafana import turn_model, turn_times
from grafana.panels import OUTCOME_COLOURS, PLAN, SURFACE, Board, Levels, Panel, Query, Row, stat
from grafana.promql import (
    ALL_COUNTED,
    ALL_FAILED,
    ALL_SLOW,
    ALL_UNANSWERED,
    ANSWERED,
    WINDOW,
    known,
    quantile,
    rate,
    ratio,
)
from grafana.turn_queries import (
    ANSWERED_GOAL,
    BURN,
    CHOSEN,
    EVALUATED,
    FEW_SLOW,
    FEW_UNANSWERED,
    FIRST_TOKEN,
    FOUND_BY_OUTCOME,
    OVERHEAD_GOAL,
    RECORDED,
    TURN,
    TURNS,
    answered,
    burn,
    under_a_second,
)

AT_A_GLANCE: Final = Row(
    title="The last five minutes, and the budgets over the time shown",
    panels=(
        stat(
            title="Turns per second",
            shows="Turns that ended, however they did.",
            act='Check "HTTP answers", and dashboard "Process" for connections, when turns should come and none does.',
            unit="suffix: /s",
            decimals=2,
            queries=(Query(expr=rate(TURNS, *CHOSEN)),),
        ),
        stat(
            title="Answered",
            shows="Share of turns that were answered (ok or degraded), of all but those refused or cancelled."
            f" Goal: 99.9 %. {RECORDED}",
            act='Look at "Failed turns by outcome" for what they ended as instead, then at the newest of'
            ' "Failed turns" for why.',
            unit="percentunit",
            decimals=2,
            levels=Levels(amber=ANSWERED_GOAL, low_is_bad=True),
            queries=(Query(expr=answered(WINDOW)),),
            empty="no turns, or no rules",
        ),
        stat(
            title="Answered: budget burn",
            shows="How many times too fast the 0.1 % of turns that may go unanswered are spent, over the time shown;"
            f" 0 where fewer than {FEW_UNANSWERED} went so. {RECORDED}",
            act='Read "Share answered" for when it began, and undo what changed then; `GET /ops/rollout` says'
            " which plan runs.",
            unit="suffix: x",
            decimals=1,
            levels=BURN,
            queries=(Query(expr=burn(ALL_UNANSWERED, ANSWERED_GOAL, FEW_UNANSWERED)),),
            empty="no turns, or no rules",
        ),
        stat(
            title="Overhead under 1 s",
            shows="Share of turns that took a second at most apart from the model's own time, of all but those"
            f" refused or cancelled. Goal: 99 %. {RECORDED}",
            act='Look at "Stages, p95": db_fetch and db_save are the database\'s, llm.queue is dashboard'
            ' "Limiter"\'s. Then open one of "Slow turns".',
            unit="percentunit",
            decimals=2,
            levels=Levels(amber=OVERHEAD_GOAL, low_is_bad=True),
            queries=(Query(expr=under_a_second(WINDOW)),),
            empty="no turns, or no rules",
        ),
        stat(
            title="Overhead: budget burn",
            shows="How many times too fast the 1 % of turns that may have a longer overhead are spent, over the"
            f" time shown; 0 where fewer than {FEW_SLOW} had one. {RECORDED}",
            act='Read "Share with an overhead under 1 s" for when it began, and "Stages, p95" for the stage'
            " that grew then.",
            unit="suffix: x",
            decimals=1,
            levels=BURN,
            queries=(Query(expr=burn(ALL_SLOW, OVERHEAD_GOAL, FEW_SLOW)),),
            empty="no turns, or no rules",
        ),
        stat(
            title="Whole turn, p95",
            shows="19 of 20 answered turns took no longer than this, the model's answer included.",
            act='Compare "Stages, p95": the stage that grew is the cause. Mostly it is llm, the model\'s host:'
            ' see "Model calls, p95".',
            unit="s",
            decimals=2,
            levels=Levels(amber=15, red=30),
            queries=(Query(expr=known(quantile(0.95, TURN, *CHOSEN, ANSWERED))),),
        ),
        stat(
            title="First token, p95",
            shows="In 19 of 20 streamed turns the pupil saw the first word within this time after asking.",
            act='Compare with "The model\'s first token": what is longer here was spent before the model was'
            " asked, in db_fetch or llm.queue.",
            unit="s",
            decimals=2,
            levels=Levels(amber=3, red=8),
            queries=(Query(expr=known(quantile(0.95, FIRST_TOKEN, *CHOSEN))),),
            empty="no streams",
        ),
        stat(
            title="Degraded",
            shows="Share of answered turns that came with a warning.",
            act='Look at "Warnings": project_unavailable and save_deferred are the database\'s,'
            ' history_shortened follows CHAT_PROMPT_MAX_CHARS; for saves open dashboard "Data safety".',
            unit="percentunit",
            decimals=1,
            levels=Levels(amber=0.02, red=0.1),
            queries=(Query(expr=ratio(rate(TURNS, *CHOSEN, 'outcome="degraded"'), rate(TURNS, *CHOSEN, ANSWERED))),),
        ),
    ),
)

OUTCOMES: Final = Row(
    title="How many, and how they ended",
    panels=(
        Panel(
            title="Turns by outcome",
            shows="Turns a second. Refused ones are the caller's fault, cancelled ones were left by their users.",
            act='Open "Failed turns by outcome" when another colour than green grows; follow a curve\'s link to'
            " its traces.",
            unit="suffix: /s",
            queries=(Query(expr=rate(TURNS, *CHOSEN, by="outcome"), legend="{{outcome}}"),),
            links=FOUND_BY_OUTCOME,
            colours=OUTCOME_COLOURS,
            stacked=True,
        ),
        Panel(
            title="Failed turns by outcome",
            shows="Share of the turns that were not answered, by what they ended as; refused and cancelled ones"
            f" do not count. One of few crosses the line, which is no alert yet. {RECORDED}",
            act='Go by the colour. shed: dashboard "Limiter". timeout: "Stages that did not end well".'
            ' upstream_error: "Failed model calls", and run `python -m app doctor`. internal_error: the log of'
            " that trace id.",
            unit="percentunit",
            levels=Levels(amber=0.001, red=0.0144),
            queries=(
                Query(
                    expr=f"{rate(ALL_FAILED, by='outcome')} / ignoring (outcome) group_left ()"
                    f" ({rate(ALL_COUNTED)} > 0)",
                    legend="{{outcome}}",
                    step=EVALUATED,
                ),
            ),
            links=FOUND_BY_OUTCOME,
            colours=OUTCOME_COLOURS,
            stacked=True,
        ),
        Panel(
            title="HTTP answers",
            shows="Answers a second on all routes, by the class of their status.",
            act='Compare with "Turns by outcome": 5xx without turns that fail come from the door (a drain, a'
            ' limit of connections): dashboard "Process", "Refused and dropped".',
            unit="suffix: /s",
            queries=(
                Query(
                    expr="sum by (class) (label_replace("
                    + rate("http_server_request_duration_seconds_count", by="http_response_status_code")
                    + ', "class", "$1", "http_response_status_code", "(.).."))',
                    legend="{{class}}xx",
                ),
            ),
            colours={"2xx": "green", "4xx": "blue", "5xx": "red"},
            stacked=True,
        ),
    ),
)

BOARD: Final = Board(
    uid="nursery-turns",
    title="Turns",
    description="How many turns, how they ended, how long they took, and where the time went.",
    rows=(AT_A_GLANCE, OUTCOMES, *turn_times.ROWS, *turn_model.ROWS),
    choices=(PLAN, SURFACE),
)
