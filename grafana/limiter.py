"""Limiter: who waits for the model, who is turned away, and what the model's host refuses."""

from typing import Final

from grafana.panels import Board, Levels, Link, Panel, Query, Row, stat
from grafana.promql import COUNTED, known, quantile, rate, ratio, rise, selector, total

TURNS: Final = "chat_turn_duration_seconds_count"
WAIT: Final = "llm_limiter_wait_duration_seconds"
WAITED: Final = 'outcome!="shed"'
"""Many are turned away at once: their waits of nothing would hide the others'."""
TOTAL, BORROWED, WAITING = "llm_limiter_total", "llm_limiter_borrowed", "llm_limiter_waiting"
RATE_LIMIT: Final = 'code=~"rate_limit_.+|slow_down|insufficient_quota|http_429"'
LONG_WAIT: Final = Levels(amber=1, red=2)
TURNED_AWAY: Final = Levels(amber=0.001, red=0.02)
QUEUED: Final = (
    Link(
        title="Traces that waited for over a second",
        traceql='{ name = "llm.queue" && duration > 1s } | select(span.limiter.total, span.limiter.waiting,'
        " span.queue.position, span.user.id)",
    ),
)
SHED: Final = ratio(rate(TURNS, 'outcome="shed"'), rate(TURNS, COUNTED))
HELD_BACK: Final = f"sum({selector(WAITING)} and ({selector(BORROWED)} < {selector(TOTAL)})) or vector(0)"

AT_A_GLANCE: Final = Row(
    title="Now",
    panels=(
        stat(
            title="Slots",
            shows="Model calls that may run at once, in all chosen processes together.",
            act="Set it with `python -m app limiter --total N --why TEXT` for each process, or"
            " OPENAI_API_POOL_SIZE for good; `python -m app whatif` says what a size would do.",
            queries=(Query(expr=total(TOTAL)),),
            empty="no server",
        ),
        stat(
            title="Slots in use",
            shows="Share of the slots that hold a model call.",
            act='Look at "Wait for a slot": full slots are fine as long as nobody waits. Then raise the slots'
            " with `python -m app limiter --total N`.",
            unit="percentunit",
            decimals=0,
            levels=Levels(amber=0.8, red=0.95),
            queries=(Query(expr=f"{total(BORROWED)} / {total(TOTAL)}"),),
            empty="no server",
        ),
        stat(
            title="Waiting",
            shows="Turns that wait for a slot.",
            act='Look at "Waiting though slots are free": if that is as many, a few users wait behind'
            " themselves (LLM_PER_USER_MAX); else the slots are too few or the model is slow.",
            levels=Levels(amber=5, red=20),
            queries=(Query(expr=total(WAITING)),),
            empty="no server",
        ),
        stat(
            title="Wait, p95",
            shows="19 of 20 turns waited no longer than this for a slot in the last five minutes, those shed left out.",
            act='Compare "Slots" with "Refusals by the model host": without refusals raise the slots with'
            " `python -m app limiter --total N`; with them more slots make it worse.",
            unit="s",
            decimals=2,
            levels=LONG_WAIT,
            queries=(Query(expr=known(quantile(0.95, WAIT, WAITED))),),
        ),
        stat(
            title="Shed",
            shows="Share of turns that were turned away with 503 in the last five minutes, of all but refused"
            " and cancelled ones.",
            act='Look at "Passages through the gate": shed there is a queue that is too long; shed only here is'
            ' a drain (dashboard "Process") or the model\'s host ("Refusals by the model host").',
            unit="percentunit",
            decimals=2,
            levels=TURNED_AWAY,
            queries=(Query(expr=SHED),),
        ),
        stat(
            title="Provider's 429",
            shows="Attempts at a model call that the host refused for its limits, over the time shown.",
            act='Read "Refusals by the model host". rate_limit_exceeded: set LLM_LIMITER_MODE=adaptive, or'
            " fewer slots with `python -m app limiter --total N`. insufficient_quota: the host's account.",
            decimals=0,
            levels=Levels(amber=1, red=20),
            queries=(Query(expr=rise("llm_upstream_rejections_total", RATE_LIMIT)),),
        ),
        stat(
            title="Our 429",
            shows="Turns over a user's limit, and addresses with too many bad tokens, over the time shown.",
            act='Look at "Our refusals for haste" for which of the two: kind user follows CHAT_RATE_LIMIT_MAX,'
            " kind address AUTH_FAILURES_MAX.",
            decimals=0,
            levels=Levels(amber=50, red=500),
            queries=(Query(expr=rise("chat_rate_limited_total")),),
        ),
        stat(
            title="Active users",
            shows="Distinct users of the last five minutes in the busiest process, estimated.",
            act='Compare with "Slots": LLM_PER_USER_MAX times these users is the most that can be asked for at once.',
            queries=(Query(expr=f"max({selector('chat_users_active')})"),),
            empty="no server",
        ),
    ),
)

QUEUE: Final = Row(
    title="The queue",
    panels=(
        Panel(
            title="Slots and turns that wait",
            shows="Slots, those in use, and turns that wait, by who decides the number (fixed, or adaptive).",
            act="Raise the slots with `python -m app limiter --total N` when in use stays at the top and turns"
            ' wait; see "Refusals by the model host" first.',
            queries=(
                Query(expr=total(TOTAL, by="mode"), legend="slots {{mode}}"),
                Query(expr=total(BORROWED, by="mode"), legend="in use {{mode}}"),
                Query(expr=total(WAITING, by="mode"), legend="waiting {{mode}}"),
            ),
        ),
        Panel(
            title="Wait for a slot",
            shows="How long turns waited for a slot, those shed left out. A dot is one turn; its trace id leads"
            " to the trace.",
            act='Compare "Slots and turns that wait" at that time. LLM_QUEUE_TIMEOUT is the longest wait, or'
            " predicted one, before a turn is shed.",
            unit="s",
            levels=LONG_WAIT,
            queries=(
                Query(expr=quantile(0.5, WAIT, WAITED), legend="p50"),
                Query(expr=quantile(0.95, WAIT, WAITED), legend="p95", exemplar=True),
            ),
            links=QUEUED,
        ),
        Panel(
            title="Passages through the gate",
            shows="Turns a second that got a slot (admitted), were turned away (shed), or left while waiting"
            " (abandoned).",
            act="Look at shed: the queue was full (LLM_QUEUE_MAX) or the wait too long (LLM_QUEUE_TIMEOUT). Run"
            " `python -m app whatif` on a TURN_LOG for the size that would have been enough.",
            unit="suffix: /s",
            queries=(Query(expr=rate(f"{WAIT}_count", by="outcome"), legend="{{outcome}}"),),
            links=(
                Link(
                    title="Traces of turns that were shed",
                    traceql='{ name = "chat.turn" && span.chat.outcome = "shed" } | select(span.error.type,'
                    " span.user.id)",
                ),
            ),
            colours={"admitted": "green", "shed": "orange", "abandoned": "text"},
        ),
    ),
)

FAIRNESS: Final = Row(
    title="Who is turned away, and who waits behind whom",
    panels=(
        Panel(
            title="Waiting though slots are free",
            shows="Turns that wait in a process that has free slots: they wait behind other turns of the same user.",
            act="Find the user: `user.id` of the traces by this panel's link, compared with `python -m app"
            " hash-user ID`. CHAT_RATE_LIMIT_MAX and LLM_PER_USER_MAX hold such a user back; others are not"
            " kept waiting.",
            width=12,
            levels=Levels(amber=3, red=10),
            queries=(Query(expr=HELD_BACK, legend="held back"),),
            links=QUEUED,
        ),
        Panel(
            title="Our refusals for haste",
            shows="Requests a second over the limit of a user's turns (user), or of an address's bad tokens (address).",
            act="Ask whose they are: traces of refused turns have `user.id`. CHAT_RATE_LIMIT_MAX and"
            " CHAT_RATE_LIMIT_WINDOW_SEC are the limit; AUTH_FAILURES_MAX is the addresses'.",
            unit="suffix: /s",
            width=12,
            queries=(Query(expr=rate("chat_rate_limited_total", by="kind"), legend="{{kind}}"),),
        ),
    ),
)

PROVIDER: Final = Row(
    title="The model's host",
    panels=(
        Panel(
            title="Refusals by the model host",
            shows="Attempts a second at a model call that failed, by the host's code or by what broke. The first of a"
            " rare code after a start is missing.",
            act="Go by the code. rate_limit_exceeded: LLM_LIMITER_MODE=adaptive, or fewer slots with `python -m"
            " app limiter --total N`. insufficient_quota, invalid_api_key: the host's account. Others: the"
            " host's status page, and OPENAI_FALLBACK_MODEL.",
            unit="suffix: /s",
            queries=(Query(expr=rate("llm_upstream_rejections_total", by="code"), legend="{{code}}"),),
            links=(
                Link(
                    title="Traces of these attempts",
                    traceql='{ span.gen_ai.operation.name = "chat" && span.error.type = "${__field.labels.code}" }',
                ),
            ),
        ),
        Panel(
            title="Model calls that were not taken",
            shows="Calls a second that the host was too busy for (overload), that its quotas refused (quota),"
            " or that were not sent because these are used up (quota_wait).",
            act="Ask the host for a higher quota when quota or quota_wait stays; for overload set"
            " LLM_LIMITER_MODE=adaptive.",
            unit="suffix: /s",
            queries=(Query(expr=rate("llm_pacer_refusals_total", by="reason"), legend="{{reason}}"),),
        ),
        Panel(
            title="Waiting for the host's quota",
            shows="Model calls that have a slot and wait until the host's requests or tokens of the minute are back.",
            act='Compare "Tokens per second" of dashboard "Turns" with the host\'s limit; lower'
            " CHAT_PROMPT_MAX_CHARS or OPENAI_MAX_TOKENS, or ask for a higher quota.",
            levels=Levels(amber=1, red=5),
            queries=(Query(expr=total("llm_pacer_waiting"), legend="waiting"),),
        ),
    ),
)

CHANGES: Final = Row(
    title="Changes",
    panels=(
        Panel(
            title="Changes of the slots by reason",
            shows="Changes a second: by hand (manual), by the adaptive limit (grow, cut), by the fleet's share"
            " (fleet).",
            act="Read `GET /ops/limiter` for who changed it and why. Many cuts: the host takes less than"
            " LLM_LIMITER_MAX; that is what adaptive is for.",
            unit="suffix: /s",
            width=12,
            queries=(Query(expr=rate("llm_limiter_changes_total", by="reason"), legend="{{reason}}"),),
        ),
        Panel(
            title="Users and turns at once",
            shows="Distinct users of the last five minutes (each process counts its own), and turns that run now.",
            act='Look at "Waiting though slots are free" when turns grow and users do not: a few ask for much.',
            width=12,
            queries=(
                Query(expr=total("chat_users_active"), legend="users"),
                Query(expr=total("edge_turns_inflight"), legend="turns"),
            ),
        ),
    ),
)

BOARD: Final = Board(
    uid="nursery-limiter",
    title="Limiter",
    description="Who waits for the model, who is turned away, and what the model's host refuses.",
    rows=(AT_A_GLANCE, QUEUE, FAIRNESS, PROVIDER, CHANGES),
)
