"""Names that OpenTelemetry defines are spelled as its own constants spell them."""

import opentelemetry.semconv._incubating.attributes.cpu_attributes as cpu
import opentelemetry.semconv._incubating.attributes.gen_ai_attributes as gen_ai
import opentelemetry.semconv._incubating.attributes.session_attributes as session
import opentelemetry.semconv._incubating.attributes.user_attributes as user
import opentelemetry.semconv._incubating.metrics.gen_ai_metrics as gen_ai_metrics
import opentelemetry.semconv._incubating.metrics.process_metrics as process_metrics
import opentelemetry.semconv.attributes.error_attributes as error
import opentelemetry.semconv.attributes.http_attributes as http
import opentelemetry.semconv.attributes.server_attributes as server
import opentelemetry.semconv.attributes.url_attributes as url
import opentelemetry.semconv.metrics.http_metrics as http_metrics

from telemetry import names

OURS = (
    "chat.",
    "limiter.",
    "save.",
    "llm.",
    "edge.",
    "otel.",
    "db_",
    "fetch.",
    "agent.",
    "queue.",
    "retry.",
    "breaker.",
    "outbox.",
    "trio.",
    "upstream.",
)


def test_defined_names_are_spelled_as_defined() -> None:
    """Every dotted name that is not ours is a constant of the semantic-convention package."""
    modules = (gen_ai, session, user, gen_ai_metrics, cpu, process_metrics, error, http, server, url, http_metrics)
    defined = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    used = {value for key, value in vars(names).items() if key.isupper() and isinstance(value, str) and "." in value}
    foreign = {name for name in used if not name.startswith(OURS)} - {names.UPSTREAM_REQUEST_ID}
    assert len(foreign) > 20
    assert foreign - defined == set()
