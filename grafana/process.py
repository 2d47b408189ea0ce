"""Process: what each server process holds, how busy it is, and how it reaches its hosts."""

from typing import Final

from grafana.panels import Board, Levels, Link, Panel, Query, Row, stat
from grafana.promql import quantile, rate, selector, total

LAG: Final = "trio_loop_lag_seconds"
MEMORY: Final = "process_memory_usage_bytes"
INFLIGHT, CONNECTIONS, DRAINING = "edge_turns_inflight", "edge_connections", "edge_draining"
UPSTREAM, QUEUED = "upstream_connections", "upstream_waiting"
BREAKER: Final = "breaker_state"
CPU: Final = "process_cpu_time_seconds_total"
HISTORY: Final = "chat_history_size_bytes"
FULL: Final = Levels(amber=400 << 20, red=512 << 20)
HELD: Final = Levels(amber=0.1, red=0.5)
STALLS: Final = (
    f"sum by (job, instance) (increase({selector(f'{LAG}_count')}[$__rate_interval]))"
    f""" - sum by (job, instance) (increase({selector(f"{LAG}_bucket", 'le="0.5"')}[$__rate_interval]))"""
)
MISSING: Final = (
    f'count(up{{job=~"$job"}} == 0 and on (job, instance) last_over_time({DRAINING}{{job=~"$job"}}[14d])) or vector(0)'
)
"""Of whole deployments: who has been away for longer than is shown cannot be chosen."""
BREAKER_WORDS: Final = {0: ("closed", "green"), 1: ("half-open", "orange"), 2: ("open", "red")}

AT_A_GLANCE: Final = Row(
    title="Now",
    panels=(
        stat(
            title="Processes",
            shows="Server processes that answer.",
            act='Start them all, see "Processes missing"; the log of one that went says why. `python -m app doctor`'
            " finds wrong settings.",
            levels=Levels(amber=1, red=1, low_is_bad=True),
            queries=(Query(expr=f"count({selector(DRAINING)}) or vector(0)"),),
        ),
        stat(
            title="Draining",
            shows="Processes that are about to stop: they finish their turns and take no new ones. Without"
            " DRAIN_GRACE they take no connections either, so that they are missing from all panels.",
            act='Wait as long as GRACEFUL_TIMEOUT; "Turns in flight" must fall to nothing. One that stays'
            " longer hangs: read its log.",
            levels=Levels(amber=1, red=2),
            queries=(Query(expr=total(DRAINING)),),
            empty="no server",
        ),
        stat(
            title="Processes missing",
            shows="Processes of the chosen deployments that Prometheus should find and does not; they were there in"
            " the last 14 days.",
            act="Start what is missing; the log of one that went says why. One that drains may be among them"
            " (GRACEFUL_TIMEOUT). What is stopped for good must leave Prometheus's targets.",
            levels=Levels(amber=1, red=1),
            queries=(Query(expr=MISSING),),
        ),
        stat(
            title="Loop stalls",
            shows="How often the loop stood still for over half a second in the last five minutes, in the process"
            " where it did most often.",
            act='Open "Loop lag" for the process. While it is held every user of that process waits: take it'
            " out of the load balancer, and look for what computes long in its last traces.",
            decimals=0,
            levels=Levels(amber=0.5, red=2.5),
            queries=(Query(expr=f"max({STALLS})"),),
            empty="no server",
        ),
        stat(
            title="CPU, busiest process",
            shows="Cores that the busiest process uses. One loop runs on one core.",
            act='Start more processes behind the load balancer when "CPU" stays there: one process does not use'
            " a second core for turns.",
            unit="suffix: cores",
            decimals=2,
            levels=Levels(amber=0.7, red=0.9),
            queries=(Query(expr=f"max({rate(CPU, by='job, instance')})"),),
            empty="no server",
        ),
        stat(
            title="Memory, largest process",
            shows="Resident memory of the largest process.",
            act='Look at "History of a turn" and "Turns in flight": long histories times turns at once is what'
            " memory goes into. Lower CHAT_HISTORY_LIMIT_DEFAULT, or restart the process: SIGTERM drains it"
            " first.",
            unit="bytes",
            levels=FULL,
            queries=(Query(expr=f"max({selector(MEMORY)})"),),
            empty="no server",
        ),
        stat(
            title="Breakers open",
            shows="Hosts that processes leave alone, because they failed several times in a row, or only try again"
            " one call at a time.",
            act='Read "Breakers" for the host: model is the model\'s (dashboard "Limiter"), database is'
            " Supabase. Run `python -m app doctor`.",
            levels=Levels(amber=1, red=1),
            queries=(Query(expr=f"count({selector(BREAKER)} > 0) or vector(0)"),),
        ),
        stat(
            title="Waiting for a connection",
            shows="Requests to the model or the database that wait for a connection of the pool.",
            act="Raise SUPABASE_MAX_CONNECTIONS when it is the database, as far as PostgREST's pool allows"
            " (`python -m app doctor` measures it); OPENAI_API_POOL_SIZE when it is the model.",
            levels=Levels(amber=1, red=10),
            queries=(Query(expr=total(QUEUED)),),
            empty="no server",
        ),
    ),
)

LOAD: Final = Row(
    title="What it holds",
    panels=(
        Panel(
            title="Connections",
            shows="Connections of clients that are open.",
            act="Compare with MAX_CONNECTIONS and the open-file limit (`python -m app doctor`); many"
            " connections without turns are idle keep-alives of the load balancer.",
            queries=(Query(expr=total(CONNECTIONS, by="instance"), legend="{{instance}}"),),
        ),
        Panel(
            title="Turns in flight",
            shows="Turns that run.",
            act='Compare with "Slots and turns that wait" of dashboard "Limiter". A process that drains must'
            " come to nothing within GRACEFUL_TIMEOUT.",
            queries=(Query(expr=total(INFLIGHT, by="instance"), legend="{{instance}}"),),
        ),
        Panel(
            title="Refused and dropped",
            shows="A second: requests that were no proper HTTP and connections over the limit (refused), and"
            " connections that were closed on a client that misbehaved, or for a failure (dropped).",
            act="Go by the reason. connections: MAX_CONNECTIONS. send_timeout: clients that do not read,"
            " CLIENT_SEND_TIMEOUT. failed: ours, read the log. Others: somebody tries things.",
            unit="suffix: /s",
            queries=(
                Query(expr=rate("edge_refusals_total", by="reason"), legend="refused {{reason}}"),
                Query(expr=rate("edge_drops_total", by="reason"), legend="dropped {{reason}}"),
            ),
        ),
    ),
)

THE_LOOP: Final = Row(
    title="How busy it is",
    panels=(
        Panel(
            title="Loop lag",
            shows="The longest time in each tenth of a second in which nobody looked at the network, because"
            " one task computed. Everybody in that process waited so long. The longest of all is rounded up: 0.5, 1,"
            " 2.5, 5, 10.",
            act='Compare with "CPU": held and busy is too much work for one process, start more; held and idle'
            " is a call that blocks. The traces of that second, by the link, show a gap in all of them.",
            unit="s",
            width=6,
            levels=HELD,
            queries=(
                Query(expr=quantile(0.5, LAG, by="instance"), legend="{{instance}} p50"),
                Query(expr=quantile(0.99, LAG, by="instance"), legend="{{instance}} p99"),
                Query(expr=quantile(1, LAG, by="instance"), legend="{{instance}} longest"),
            ),
            links=(Link(title="Slow turns of that time", traceql='{ name = "chat.turn" && duration > 1s }'),),
        ),
        Panel(
            title="Tasks",
            shows="Trio tasks that live: some for the process, a few for each connection and turn.",
            act='Compare with "Connections" and "Turns in flight": tasks that grow when these do not are a'
            " leak; restart the process and keep `GET /ops/turns` for the report.",
            width=6,
            queries=(Query(expr=total("trio_tasks_living", by="instance"), legend="{{instance}}"),),
        ),
        Panel(
            title="CPU",
            shows="Cores in use, by the process's own work (user) and the kernel's for it (system).",
            act='Start more processes when one is near 1; compare turns a second of dashboard "Turns" with what'
            " one process can do, before you look for a fault.",
            unit="suffix: cores",
            width=6,
            levels=Levels(amber=0.7, red=0.9),
            queries=(Query(expr=rate(CPU, by="instance, cpu_mode"), legend="{{instance}} {{cpu_mode}}"),),
        ),
        Panel(
            title="Memory",
            shows="Resident memory of each process.",
            act='Compare with "History of a turn" and "Turns in flight". Memory that stays after the load is'
            " gone is a leak: restart the process with SIGTERM, it drains first.",
            unit="bytes",
            width=6,
            levels=FULL,
            queries=(Query(expr=total(MEMORY, by="instance"), legend="{{instance}}"),),
        ),
    ),
)

HOSTS: Final = Row(
    title="How it reaches its hosts",
    panels=(
        Panel(
            title="Connections to the hosts",
            shows="Connections to the model's host and to the database, in use (active) and kept (idle).",
            act="Raise SUPABASE_MAX_CONNECTIONS when active stays at it, as far as PostgREST's pool allows"
            " (`python -m app doctor` measures it). The model's follow OPENAI_API_POOL_SIZE.",
            width=6,
            queries=(Query(expr=total(UPSTREAM, by="target, state"), legend="{{target}} {{state}}"),),
        ),
        Panel(
            title="Requests that wait for a connection",
            shows="Requests to each host that wait, because all connections are in use.",
            act="Raise SUPABASE_MAX_CONNECTIONS (database) or OPENAI_API_POOL_SIZE (model); when all wait at"
            ' once the host is slow: "Stages, p95" of dashboard "Turns".',
            width=6,
            levels=Levels(amber=1, red=10),
            queries=(Query(expr=total(QUEUED, by="target"), legend="{{target}}"),),
        ),
        Panel(
            title="Breakers",
            shows="Whether a process leaves a host alone after failures in a row (open), or tries it again"
            " (half-open).",
            act="Run `python -m app doctor`, which asks both hosts. The breaker closes by itself after one call"
            " that works.",
            kind="states",
            width=6,
            words=BREAKER_WORDS,
            queries=(Query(expr=selector(BREAKER), legend="{{instance}} {{target}}"),),
        ),
        Panel(
            title="History of a turn",
            shows="Text of the history that a turn fetched.",
            act="Lower CHAT_HISTORY_LIMIT_MAX when p99 comes near the megabytes: it is held in memory for the"
            " turn's length. CHAT_PROMPT_MAX_CHARS bounds only what the model is given.",
            unit="bytes",
            width=6,
            levels=Levels(amber=600_000, red=2_000_000),
            queries=(
                Query(expr=quantile(0.5, HISTORY), legend="p50"),
                Query(expr=quantile(0.99, HISTORY), legend="p99"),
            ),
        ),
    ),
)

WHAT: Final = Row(
    title="What runs",
    panels=(
        Panel(
            title="Versions",
            shows="Processes by the version that they run. Blue lines mark starts.",
            act="Compare the time of a change with the curves above: what got worse with a version is undone"
            " with the one before. `GET /ops/settings` shows what a process runs with.",
            width=24,
            queries=(
                Query(expr=f"count by (service_version) ({selector('target_info')})", legend="{{service_version}}"),
            ),
            stacked=True,
        ),
    ),
)

BOARD: Final = Board(
    uid="nursery-process",
    title="Process",
    description="What each server process holds, how busy it is, and how it reaches its hosts.",
    rows=(AT_A_GLANCE, LOAD, THE_LOOP, HOSTS, WHAT),
)
