"""Rows of dashboard Turns: the model and its tokens, what was second best, and traces to open."""

from typing import Final

from grafana.panels import Levels, Link, Panel, Query, Row
from grafana.promql import quantile, rate
from grafana.turn_queries import (
    CHOSEN,
    FIRST_CHUNK,
    FIRST_TOKEN,
    MODEL,
)

THE_MODEL: Final = Row(
    title="The model",
    panels=(
        Panel(
            title="Time to the first token",
            shows="From the start of a streamed turn to its first word.",
            act='Compare with "The model\'s first token" beside it: the difference is ours, in db_fetch or llm.queue.',
            unit="s",
            width=6,
            levels=Levels(amber=3, red=8),
            queries=(
                Query(expr=quantile(0.5, FIRST_TOKEN, *CHOSEN, by="surface"), legend="{{surface}} p50"),
                Query(expr=quantile(0.95, FIRST_TOKEN, *CHOSEN, by="surface"), legend="{{surface}} p95", exemplar=True),
            ),
        ),
        Panel(
            title="The model's first token",
            shows="From asking the model to its first word, for each model.",
            act="Set OPENAI_FALLBACK_MODEL to a quicker one when a host stays slow; LLM_FIRST_TOKEN_TIMEOUT is"
            " when it is given up. A host that lets calls wait: LLM_LIMITER_SILENT_QUEUE.",
            unit="s",
            width=6,
            levels=Levels(amber=3, red=8),
            queries=(
                Query(
                    expr=quantile(0.5, FIRST_CHUNK, by="gen_ai_request_model"), legend="{{gen_ai_request_model}} p50"
                ),
                Query(
                    expr=quantile(0.95, FIRST_CHUNK, by="gen_ai_request_model"),
                    legend="{{gen_ai_request_model}} p95",
                    exemplar=True,
                ),
            ),
        ),
        Panel(
            title="Model calls, p95",
            shows="A whole call that did not fail, for each model; it grows with the answer's length.",
            act='Compare with "Tokens per second": as many tokens in more time is a slow host; more tokens are'
            " longer answers, which OPENAI_MAX_TOKENS bounds.",
            unit="s",
            width=6,
            queries=(
                Query(
                    expr=quantile(0.95, MODEL, 'error_type=""', by="gen_ai_request_model"),
                    legend="{{gen_ai_request_model}}",
                    exemplar=True,
                ),
            ),
        ),
        Panel(
            title="Failed model calls",
            shows="Calls a second that failed after all their attempts, by the host's code or by what broke. The first"
            " of a code after a start is missing.",
            act='Go by the code. rate_limit_exceeded: dashboard "Limiter". insufficient_quota, invalid_api_key:'
            " the host's account, then `python -m app doctor`. timeouts: the host's status page.",
            unit="suffix: /s",
            width=6,
            queries=(
                Query(
                    expr=rate(f"{MODEL}_count", 'error_type!=""', by="error_type, gen_ai_request_model"),
                    legend="{{error_type}} {{gen_ai_request_model}}",
                ),
            ),
            links=(
                Link(
                    title="Traces of these calls",
                    traceql='{ span.gen_ai.operation.name = "chat" && span.error.type ='
                    ' "${__field.labels.error_type}" }',
                ),
            ),
        ),
    ),
)

SECOND_BEST: Final = Row(
    title="Tokens, and what was second best",
    panels=(
        Panel(
            title="Tokens per second",
            shows="Tokens that went in and came out, for each model: what the host bills.",
            act="Set CHAT_PROMPT_MAX_CHARS or CHAT_HISTORY_LIMIT_DEFAULT lower when input grows without more"
            " turns, OPENAI_MAX_TOKENS when output does.",
            unit="suffix: /s",
            queries=(
                Query(
                    expr=rate("gen_ai_client_token_usage_sum", by="gen_ai_token_type, gen_ai_request_model"),
                    legend="{{gen_ai_token_type}} {{gen_ai_request_model}}",
                ),
            ),
        ),
        Panel(
            title="Fallbacks by kind",
            shows="Turns a second that went on in a second-best way: model (OPENAI_FALLBACK_MODEL answered),"
            " heuristic (the agent's rules decided), plan (the sequential plan took over).",
            act='Look at "Failed model calls" for model and heuristic, and at the traces by this panel\'s link'
            " for plan.",
            unit="suffix: /s",
            queries=(Query(expr=rate("chat_fallbacks_total", by="kind"), legend="{{kind}}"),),
            links=(
                Link(
                    title="Traces with this fallback",
                    traceql='{ name = "chat.turn" && span.chat.fallback = "${__field.labels.kind}" }',
                ),
            ),
        ),
        Panel(
            title="Warnings",
            shows="Warnings a second that answers came with.",
            act='Go by the kind. project_unavailable: fetch.project in "Stages that did not end well".'
            ' save_deferred, save_failed: dashboard "Data safety". history_shortened: CHAT_PROMPT_MAX_CHARS.',
            unit="suffix: /s",
            queries=(Query(expr=rate("chat_warnings_total", by="kind"), legend="{{kind}}"),),
        ),
    ),
)

TRACES: Final = Row(
    title="Traces of the time shown",
    panels=(
        Panel(
            title="Slow turns",
            shows="Turns of more than five seconds, as far as their traces were kept.",
            act="Open the trace and find the longest bar under chat.turn. `GET /ops/turns?min_seconds=5` has"
            " the newest ones of a process with their figures, traced or not.",
            kind="traces",
            width=12,
            traceql='{ name = "chat.turn" && duration > 5s } | select(span.chat.outcome, span.chat.plan,'
            " span.chat.surface, span.chat.turn.id)",
        ),
        Panel(
            title="Failed turns",
            shows="Turns that were not answered, as far as their traces were kept.",
            act="Open the trace and go to the red span: error.type says what it was. `GET /ops/turns` lists the"
            " newest ones of a process, traced or not.",
            kind="traces",
            width=12,
            traceql='{ name = "chat.turn" && span.chat.outcome =~ "shed|timeout|upstream_error|internal_error"'
            " } | select(span.chat.outcome, span.error.type, span.chat.plan, span.chat.surface,"
            " span.chat.turn.id)",
        ),
    ),
)

ROWS: Final = (THE_MODEL, SECOND_BEST, TRACES)
