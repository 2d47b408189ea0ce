"""Prompts and answers on the model's span: only where the standard variable asks for them, and nowhere else."""

import json
from pathlib import Path

import pytest

from tests.receivers import otlp_receiver
from tests.server.process import AT_ONCE, running

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
BREAKS_OFF = "[[fault: cut after=3]]"
SAID = "canary-message"
INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"


@pytest.mark.parametrize("asked_for", ["true", "True", "", "false"])
def test_texts_are_captured_only_where_that_is_asked_for(tmp_path: Path, asked_for: str) -> None:
    """The model's span has prompt and answer, one that broke off too; no other span, no metric and no log line has."""
    captures = asked_for.lower() == "true"
    with otlp_receiver() as receiver:
        with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **{VARIABLE: asked_for}) as server:
            body = server.answer(f"{SAID} {AT_ONCE}")
            assert server.ask(f"{SAID} {BREAKS_OFF}").status_code == 502
            page = server.http.get("/metrics").text
            assert server.end() == 0
        spans = receiver.spans
    calls = [span for span in spans if span.name.startswith("chat ")]
    assert len(calls) == 2
    if captures:
        for span in calls:
            *_, question = json.loads(span.attributes[INPUT])
            assert (question["role"], question["parts"][0]["type"]) == ("user", "text")
            assert SAID in question["parts"][0]["content"]
        whole, half = (json.loads(span.attributes[OUTPUT]) for span in calls)
        parts = [{"type": "text", "content": body["response"]}]
        assert whole == [{"role": "assistant", "parts": parts, "finish_reason": "stop"}]
        assert half[0]["parts"][0]["content"]
        assert half[0]["finish_reason"] == "error"
    else:
        assert not any({INPUT, OUTPUT} & span.attributes.keys() for span in calls)
    others = [span for span in spans if span not in calls or not captures]
    assert SAID not in f"{others} {page} {server.log_text}"
    assert bool(server.lines("telemetry.messages_captured")) == captures
