"""Where traces and metrics go: whether the collector takes an empty export of each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from app.clients.probing import HostAnswer, Signal
from app.ops.doctor.finding import Finding, ok, skip, warn


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCheck:
    """Exports nothing of one signal.

    Args:
        signal: which.
        export: exports; it blocks, so it is called in a thread.
        wanted: whether the standard variables ask for it.
        disabled: whether they switch telemetry off as a whole.
    """

    signal: Signal
    export: Callable[[Signal], HostAnswer]
    wanted: bool
    disabled: bool

    async def look(self) -> list[Finding]:
        """Return whether the collector takes it, or why nothing goes there."""
        if not self.wanted:
            return [skip(f"otlp.{self.signal}", f"not exported: {self._why}")]
        answer = await trio.to_thread.run_sync(partial(self.export, self.signal), abandon_on_cancel=True)
        return [judge(self.signal, answer)]

    @property
    def _why(self) -> str:
        if self.disabled:
            return "OTEL_SDK_DISABLED is true"
        return f"no OTEL_EXPORTER_OTLP_ENDPOINT is set, or OTEL_{self.signal.upper()}_EXPORTER is none"


def judge(signal: Signal, answer: HostAnswer) -> Finding:
    """Return what an answer says; a collector that is not there loses telemetry, and no turn."""
    check, variable = f"otlp.{signal}", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    if answer.good:
        return ok(check, f"{answer.host} takes an empty export")
    if answer.status is None:
        said = f"{answer.host} does not answer ({answer.code})"
        return warn(check, said, "start the collector, or check OTEL_EXPORTER_OTLP_ENDPOINT (HTTP, port 4318)")
    said = f"{answer.host} answers {answer.status}"
    if answer.status in (401, 403):
        return warn(check, said, "set OTEL_EXPORTER_OTLP_HEADERS to what the collector wants")
    if answer.status in (404, 405):
        todo = f"OTEL_EXPORTER_OTLP_ENDPOINT is the base, to which /v1/{signal} is added; {variable} is used as it is"
        return warn(check, f"{said}: no OTLP receiver there", todo)
    return warn(check, said, "look at the collector's log")
