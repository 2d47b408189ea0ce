"""A real Prometheus that scrapes servers on loopback ports, and what it is asked."""

import json
import math
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.needs import need_program

WAIT_S = 30.0  # far beyond anything that is waited for here: a test that reaches it has found a fault
PAUSE_S = 0.1  # between two questions, where Prometheus tells nothing by itself
Target = tuple[str, str, str | None]
"""The job, the URL of an instance (its path is /metrics unless it says another), the bearer's token or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series of an instant query: its labels and its one value, which may be NaN."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """The API of a running Prometheus with so many targets. Times are `time.time()`'s: seconds of the epoch."""

    def __init__(self, url: str, targets: int) -> None:
        self.url = url
        self._targets = targets
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=WAIT_S, trust_env=False)

    def close(self) -> None:
        """Give its connections back."""
        self._http.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """Return `data` of an answer of the API; an expression that it refuses fails the test with its words."""
        queried = path.startswith("query")
        response = self._http.post(path, data=parameters) if queried else self._http.get(path, params=parameters)
        body = response.json()
        assert body["status"] == "success", f"{body.get('error')}: {parameters}"
        return body["data"]

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """Return what an expression gives at a time, now by default; a scalar is one series without labels."""
        given = {"query": expression} if at is None else {"query": expression, "time": repr(at)}
        data = self.ask("query", **given)
        if data["resultType"] == "scalar":
            return [Series(labels={}, value=float(data["result"][1]))]
        return [Series(labels=found["metric"], value=float(found["value"][1])) for found in data["result"]]

    def query_range(self, expression: str, start: float, end: float, step_s: float = 1.0) -> list[dict[str, Any]]:
        """Return the series of an expression between two times, each `{"metric": labels, "values": [[time, text]]}`."""
        given = {"query": expression, "start": repr(start), "end": repr(end), "step": repr(step_s)}
        found: list[dict[str, Any]] = self.ask("query_range", **given)["result"]
        return found

    def exemplars(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return each exemplar of the series in an expression: `labels`, `value`, `timestamp`."""
        data = self.ask("query_exemplars", query=expression, start=repr(start), end=repr(end))
        return [exemplar for series in data for exemplar in series["exemplars"]]

    def targets(self) -> list[dict[str, Any]]:
        """Return what is scraped, each with `labels`, `health` and `lastError`."""
        found: list[dict[str, Any]] = self.ask("targets")["activeTargets"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing, each with `labels` (`alertname` among them) and `state`."""
        found: list[dict[str, Any]] = self.ask("alerts")["alerts"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules of all groups, each with `name`, `type`, `health`, `lastError` and `lastEvaluation`."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def wait_until(self, expression: str, timeout_s: float = WAIT_S) -> list[Series]:
        """Return what an expression gives, as soon as it gives a finite value: `up == 1`, `some_total > 3`."""
        found: list[Series] = []

        def gives() -> bool:
            found[:] = [series for series in self.query(expression) if math.isfinite(series.value)]
            return bool(found)

        self.wait_for(gives, expression, timeout_s)
        return found

    def wait_for(self, holds: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        """Return as soon as something holds that can only be asked."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
            threading.Event().wait(PAUSE_S)

    def wait_for_scrapes(self) -> None:
        """Return when every target was scraped after this call began, so that what was counted before is known."""
        asked = time.time()
        began = f"timestamp(up) > {asked!r} and up == 1"  # not timestamp(up == 1): that is the time of the question
        self.wait_for(lambda: len(self.query(began)) == self._targets, "scrapes")


@contextmanager
def prometheus(
    folder: Path, targets: Sequence[Target], rules: str | None = None, scrape_interval: str = "1s"
) -> Iterator[Prometheus]:
    """Run a Prometheus until the block ends; it answers when this yields, but may have scraped nothing yet.

    Args:
        folder: where its configuration and its log are left; what it stores is in memory and gone afterwards.
        targets: what it scrapes.
        rules: the text of a rule file, evaluated as often as is scraped.
        scrape_interval: in Prometheus's words.
    """
    program = need_program("prometheus", "apt-get install prometheus")
    config, listen = _configured(folder, targets, rules, scrape_interval), f"127.0.0.1:{_free_port()}"
    shared_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory if shared_memory.is_dir() else None) as data:
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={data}"]
        command += [f"--web.listen-address={listen}", "--enable-feature=exemplar-storage", "--log.level=warn"]
        command += [
            "--scrape.discovery-reload-interval=100ms"
        ]  # targets wait for it at the start, five seconds by default
        with (folder / "prometheus.log").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        api = Prometheus(f"http://{listen}", len(targets))
        try:
            _until_ready(api.url, process, folder / "prometheus.log")
            yield api
        finally:
            api.close()
            _end(process)


def shortened(expression: str, longest_s: int) -> str:
    """Return an expression with no range and no offset of over so many seconds.

    Steps of subqueries become one second, so that a short one has several.
    """

    def short(found: re.Match[str]) -> str:
        if found["text"]:
            return found[0]
        if found["offset"]:
            return found["word"] + _at_most(found["offset"], longest_s)
        return f"[{_at_most(found['range'], longest_s)}{':1s' if found['step'] else ''}]"

    return _RANGES.sub(short, expression)


_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"
_RANGES = re.compile(
    rf"""(?P<text>"(?:[^"\\]|\\.)*")|\[(?P<range>{_DURATION})(?P<step>:[^\]]*)?\]|(?P<word>\boffset\s+)(?P<offset>{_DURATION})"""
)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


def _at_most(duration: str, longest_s: int) -> str:
    seconds = sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))
    return duration if seconds <= longest_s else f"{longest_s}s"


def _configured(folder: Path, targets: Sequence[Target], rules: str | None, interval: str) -> Path:
    """Write the configuration; YAML reads JSON. Each target has a scrape of its own, since a job has one token."""
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "storage": {"exemplars": {"max_exemplars": 100_000}},
        "scrape_configs": [_scrape(number, *target) for number, target in enumerate(targets)],
    }
    if rules is not None:
        (folder / "rules.yaml").write_text(rules)
        config["rule_files"] = [str(folder / "rules.yaml")]
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))
    return path


def _scrape(number: int, job: str, url: str, token: str | None) -> dict[str, Any]:
    parts = urlsplit(url)
    scrape: dict[str, Any] = {
        "job_name": f"{job}-{number}",
        "scheme": parts.scheme,
        "metrics_path": parts.path if parts.path not in ("", "/") else "/metrics",
        "static_configs": [{"targets": [parts.netloc], "labels": {"job": job}}],
    }
    return scrape | ({"authorization": {"credentials": token}} if token else {})


def _until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        threading.Event().wait(0.05)
    raise AssertionError(f"Prometheus is not ready; exit code {process.poll()}\n{log.read_text()}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
