"""Data safety: what is said and not yet in the database, and whether it will come there."""

from typing import Final

from grafana.panels import Board, Levels, Link, Panel, Query, Row, stat
from grafana.promql import quantile, rate, rise, selector, total

DEPTH, AGE, PAUSED = "outbox_depth", "outbox_oldest_age_seconds", "outbox_paused"
REPLAYS, WARNINGS = "outbox_replays_total", "chat_warnings_total"
STAGE: Final = "chat_stage_duration_seconds"
WAITING, SET_ASIDE = 'state="waiting"', 'state="set_aside"'
SAVES: Final = 'stage=~"save.user|db_save"'
DATABASE: Final = 'target="database"'
OLD: Final = Levels(amber=10, red=30)
OUTCOMES: Final = {"delivered": "green", "failed": "orange", "set_aside": "red"}
ROUNDS: Final = (
    Link(
        title="Rounds that failed",
        traceql='{ name = "outbox.replay" && status = error } | select(span.outbox.rows, span.outbox.delivered,'
        " span.outbox.set_aside, span.error.type)",
    ),
)

AT_A_GLANCE: Final = Row(
    title="Now",
    panels=(
        stat(
            title="Rows waiting",
            shows="Rows that are safe on this machine's disk and not in the database yet.",
            act='Look at "Paused" and "Age of the oldest row": a short queue that moves is fine. If it does not'
            " move, run `python -m app doctor`.",
            levels=Levels(amber=20, red=200),
            queries=(Query(expr=total(DEPTH, WAITING)),),
            empty="no outbox",
        ),
        stat(
            title="Rows set aside",
            shows="Rows that the database refuses for what they are. They stay until somebody decides; nothing"
            " is lost.",
            act="Read `GET /ops/outbox` for the reason of each; mend what it says, then `POST"
            " /ops/outbox/{entry_id}/retry`. `DELETE /ops/outbox/{entry_id}` loses what was said.",
            levels=Levels(amber=1, red=1),
            queries=(Query(expr=total(DEPTH, SET_ASIDE)),),
            empty="no outbox",
        ),
        stat(
            title="Oldest row",
            shows="How long the oldest waiting row has been waiting, in the process where that is longest.",
            act='Look at "Paused": paused is a refused key or a missing table, which `python -m app doctor`'
            ' names. Else compare "Breaker of the database".',
            unit="s",
            levels=OLD,
            queries=(Query(expr=f"max({selector(AGE)})"),),
            empty="no outbox",
        ),
        stat(
            title="Paused",
            shows="Processes whose outbox has stopped, because the database refuses them altogether.",
            act="Run `python -m app doctor`: it names the key, the table or the column. After that the outbox"
            " goes on by itself; `GET /ops/outbox` of each process says so. A new SUPABASE_KEY is for all of them.",
            levels=Levels(amber=1, red=1),
            queries=(Query(expr=total(PAUSED)),),
            empty="no outbox",
        ),
        stat(
            title="Deferred saves",
            shows="Answers whose rows went to the outbox, because the database did not take them in time. Over"
            " the time shown.",
            act='Look at "Saves, p95" against DB_SAVE_TIMEOUT, and at "Breaker of the database". The rows are safe.',
            decimals=0,
            levels=Levels(amber=1, red=100),
            queries=(Query(expr=rise(WARNINGS, 'kind="save_deferred"')),),
        ),
        stat(
            title="Failed saves",
            shows="Answers whose rows went nowhere: the database did not take them and neither did the outbox."
            " Over the time shown.",
            act="Check the disk of DATA_DIR at once (`python -m app doctor`): these rows are lost but for what"
            " their users still see on the screen.",
            decimals=0,
            levels=Levels(amber=1, red=1),
            queries=(Query(expr=rise(WARNINGS, 'kind="save_failed"')),),
        ),
        stat(
            title="Superseded",
            shows="Answers that another process had given to the same message before. Over the time shown.",
            act="Check that clients repeat a message with its Idempotency-Key only after the first answer is"
            " lost; a load balancer that repeats requests must not, see TURN_TIMEOUT.",
            decimals=0,
            levels=Levels(amber=5, red=50),
            queries=(Query(expr=rise(WARNINGS, 'kind="superseded"')),),
        ),
        stat(
            title="Telemetry dropped",
            shows="Spans and metric points that did not leave the process, over the time shown.",
            act="Check OTEL_EXPORTER_OTLP_ENDPOINT and the collector's log; `python -m app doctor` sends it"
            " something. Metrics on `GET /metrics` are complete all the same.",
            decimals=0,
            levels=Levels(amber=1, red=1000),
            queries=(Query(expr=rise("otel_dropped_total")),),
        ),
    ),
)

OUTBOX: Final = Row(
    title="The outbox",
    panels=(
        Panel(
            title="Rows in the outbox",
            shows="Rows that wait for the database, and rows that it refuses (set_aside), in all processes.",
            act="Read `GET /ops/outbox` of a process for its rows and what stands in their way. A process that"
            " is gone left a file behind: `python -m app outbox deliver FILE`.",
            levels=Levels(amber=20, red=200),
            queries=(Query(expr=total(DEPTH, by="state"), legend="{{state}}"),),
            colours={"waiting": "orange", "set_aside": "red"},
        ),
        Panel(
            title="Age of the oldest row",
            shows="How long each process's oldest row has been waiting.",
            act='Compare the processes: all alike is the database ("Breaker of the database"), one alone is'
            " that process: read its `GET /ops/outbox`.",
            unit="s",
            levels=OLD,
            queries=(Query(expr=selector(AGE), legend="{{instance}}"),),
        ),
        Panel(
            title="Replays by outcome",
            shows="Rows a second that were delivered, that failed and will be tried again, or that were set aside.",
            act="Follow the link to the rounds that failed: error.type says what stands in the way. When none"
            " is delivered, run `python -m app doctor`.",
            unit="suffix: /s",
            queries=(Query(expr=rate(REPLAYS, by="outcome"), legend="{{outcome}}"),),
            links=ROUNDS,
            colours=OUTCOMES,
        ),
        Panel(
            title="Set aside by process",
            shows="Rows that the database refuses, and the process in whose file they are.",
            act="Read `GET /ops/outbox` of that process: rows can be retried or deleted only there.",
            width=12,
            levels=Levels(amber=1, red=1),
            queries=(Query(expr=selector(DEPTH, SET_ASIDE), legend="{{instance}}"),),
        ),
        Panel(
            title="Warnings about saves",
            shows="Answers a second with a warning about their rows: deferred (in the outbox), failed"
            " (nowhere), superseded (another process had answered).",
            act='Look at "Saves that did not end well" for the why of deferred ones; failed ones are a full or'
            " broken disk under DATA_DIR.",
            unit="suffix: /s",
            width=12,
            queries=(
                Query(
                    expr=rate(WARNINGS, 'kind=~"save_deferred|save_failed|superseded"', by="kind"), legend="{{kind}}"
                ),
            ),
            colours={"save_deferred": "orange", "save_failed": "red", "superseded": "yellow"},
        ),
    ),
)

DATABASE_ROW: Final = Row(
    title="The database, as saves see it",
    panels=(
        Panel(
            title="Saves, p95",
            shows="How long it took until rows were safe: the user's (save.user), and from the model's end on"
            " both (db_save). A dot is one turn.",
            act="Compare with DB_SAVE_TIMEOUT, after which the outbox takes over; SAVE_MODE=outbox takes the"
            " database out of the turn altogether.",
            unit="s",
            width=6,
            levels=Levels(amber=0.5, red=2),
            queries=(Query(expr=quantile(0.95, STAGE, SAVES, by="stage"), legend="{{stage}}", exemplar=True),),
        ),
        Panel(
            title="Saves that did not end well",
            shows="Saves a second that ended in another way than ok.",
            act="Follow the link to the traces: a timeout is a slow database, upstream_error one that refuses"
            " (`python -m app doctor` says what).",
            unit="suffix: /s",
            width=6,
            queries=(
                Query(
                    expr=rate(f"{STAGE}_count", SAVES, 'outcome!="ok"', by="stage, outcome"),
                    legend="{{stage}} {{outcome}}",
                ),
            ),
            links=(
                Link(
                    title="Traces of these saves",
                    traceql='{ name = "${__field.labels.stage}" && status = error } | select(span.save.mode,'
                    " span.save.deferred, span.error.type)",
                ),
            ),
        ),
        Panel(
            title="Breaker of the database",
            shows="Whether each process leaves the database alone after failures in a row, or tries it (half-open).",
            act="Run `python -m app doctor`, and look at the database's own health; the breaker closes by itself.",
            kind="states",
            width=6,
            words={0: ("closed", "green"), 1: ("half-open", "orange"), 2: ("open", "red")},
            queries=(Query(expr=selector("breaker_state", DATABASE), legend="{{instance}}"),),
        ),
        Panel(
            title="Telemetry that was dropped",
            shows="Spans (traces) and metric points a second that did not leave the process.",
            act="Check OTEL_EXPORTER_OTLP_ENDPOINT and the collector; OTEL_BSP_MAX_QUEUE_SIZE is how many spans"
            " may wait for it.",
            unit="suffix: /s",
            width=6,
            queries=(Query(expr=rate("otel_dropped_total", by="signal"), legend="{{signal}}"),),
        ),
    ),
)

BOARD: Final = Board(
    uid="nursery-data-safety",
    title="Data safety",
    description="What was said and is not in the database yet, and whether it will come there.",
    rows=(AT_A_GLANCE, OUTBOX, DATABASE_ROW),
)
