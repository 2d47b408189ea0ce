"""`make trace-demo`: two turns in a trace viewer that is not ours, to see what an SRE sees.

Starts Arize Phoenix as the viewer and a server with the scripted model, and asks it a streamed question that has to
wait for the model's only slot, and one whose model fails three times. Then it makes sure that the viewer took the
model's span for what it is, and prints where to look. With `--pictures FOLDER` it takes pictures and ends.

Runs in an environment of its own (`grafana/trace_demo.in`): the viewer brings 150 packages, which the server must not
see.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
WAIT_S = 90.0  # the viewer's first start makes its database
STREAMED = "What is a hypothesis? [[fault: slow first=0.15 each=0.008]]"
FAILED = "And how do I test one? [[fault: http 503 server_error]]"
BEFORE_IT = "Keep the model busy for a moment. [[fault: slow first=0.3 each=0.01]]"


def main() -> None:
    """Start both, ask, check, show."""
    parser = argparse.ArgumentParser(prog="make trace-demo", description=__doc__)
    parser.add_argument("--port", type=int, default=6006, help="the viewer's port on 127.0.0.1")
    parser.add_argument("--server-python", default=str(ROOT / ".venv/bin/python"), help="what runs the server")
    parser.add_argument("--pictures", type=Path, help="put trace-streamed.png and trace-failed.png there, and end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_viewer(Path(folder), options.port) as viewer:
        traces = ask_both(Path(folder), viewer, options.server_python)
        project = httpx.get(f"{viewer}/v1/projects").raise_for_status().json()["data"][0]["id"]
        for name, trace_id in traces.items():
            check_model_span(viewer, trace_id, answered=name == "streamed")
            print(f"{name}: {viewer}/projects/{project}/traces/{trace_id}")
        if options.pictures:
            take_pictures(f"{viewer}/projects/{project}/traces", traces, options.pictures)
            return
        print("Ctrl-C ends the viewer.")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextmanager
def running_viewer(folder: Path, port: int) -> Iterator[str]:
    """Run the viewer on loopback with its data in `folder`; yield its address once it answers."""
    variables = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(port + 1),
        "PHOENIX_TELEMETRY_ENABLED": "false", "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }  # fmt: skip
    command = [str(Path(sys.executable).with_name("phoenix")), "serve"]
    with (folder / "viewer.log").open("w") as log, process(command, variables, log) as viewer:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            if viewer.poll() is not None:
                raise SystemExit(f"the viewer ended:\n{(folder / 'viewer.log').read_text()[-2000:]}")
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/healthz").is_success
            return False

        until(answers, "the viewer answers")
        yield url


@contextmanager
def process(command: list[str], variables: Mapping[str, str], errors: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends, with just these variables; what it says goes to `errors`."""
    running = subprocess.Popen(command, env=dict(variables), stdout=errors, stderr=errors, text=True)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(15)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def ask_both(folder: Path, viewer: str, python: str) -> dict[str, str]:
    """Run a server that exports to `viewer`, ask the two questions, and return their trace ids; all is sent by then."""
    variables = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BIND": "127.0.0.1:0", "DATA_DIR": str(folder / "data"),
        "EMBEDDED_LLM": "scripted", "OPENAI_API_POOL_SIZE": "1",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{viewer}/v1/traces",
    }  # fmt: skip
    log_file = folder / "server.log"
    with log_file.open("w") as log, process([python, "-m", "app", "serve"], variables, log):
        until(lambda: "server.listening" in log_file.read_text(), "the server listens")
        url = next(json.loads(line)["url"] for line in log_file.read_text().splitlines() if "server.listening" in line)
        with httpx.Client(base_url=url, timeout=WAIT_S) as client:
            before = threading.Thread(target=ask, args=(client, BEFORE_IT, "somebody-else"))
            before.start()
            until(lambda: client.get("/ops/limiter").json()["borrowed"] == 1, "the model is busy")
            streamed = ask(client, STREAMED, "demo")
            before.join()
            return {"streamed": streamed, "failed": ask(client, FAILED, "demo")}


def ask(client: httpx.Client, message: str, user: str) -> str:
    """Ask on the stream, read it to its end, and return the turn's trace id."""
    answer = client.post(
        "/chat/stream",
        json={"message": message, "page_id": "project-1"},
        headers={"authorization": f"Bearer {user}"},
    )
    return answer.headers["x-trace-id"]


def check_model_span(viewer: str, trace_id: str, *, answered: bool) -> None:
    """Make sure that the viewer shows the trace's model span as a model's, with model and tokens.

    Raises:
        SystemExit: it does not.
    """
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        spans = httpx.get(f"{viewer}/v1/projects/default/spans", params={"limit": 500}).json()["data"]
        found[:] = [span for span in spans if span["context"]["trace_id"] == trace_id]
        return any(span["name"].startswith("POST /chat") for span in found)

    until(arrived, f"trace {trace_id} arrived")
    (model,) = [span for span in found if span["name"].startswith("chat ")][:1] or [{"span_kind": None}]
    tokens = model.get("attributes", {}).get("llm.token_count.total", 0)
    if model["span_kind"] != "LLM" or not model["attributes"].get("llm.model_name") or answered != bool(tokens):
        raise SystemExit(f"the viewer did not take this for a model's span: {model}")
    print(f"{model['name']}: kind {model['span_kind']}, {tokens or 'no'} tokens, status {model['status_code']}")


def take_pictures(traces_url: str, traces: Mapping[str, str], folder: Path) -> None:
    """Take a picture of each trace, its tree drawn as a waterfall, with the model's span chosen."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play, play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"]) as browser:
        for name, trace_id in traces.items():
            page = browser.new_page(viewport={"width": 1600, "height": 1080})
            page.add_init_script("localStorage.setItem('arize-phoenix-theme', 'light')")
            page.goto(f"{traces_url}/{trace_id}")
            page.get_by_text("chat scripted-tutor").first.click()
            boxes = [each.bounding_box() for each in page.locator("[role=separator]").all()]
            handle = [box for box in boxes if box and box["height"] > 300][-1]  # between tree and details
            page.mouse.move(handle["x"], handle["y"] + 200)
            page.mouse.down()
            page.mouse.move(1060, handle["y"] + 200, steps=8)  # a wide tree shows its bars
            page.mouse.up()
            page.locator(".span-tree-timing").first.wait_for(state="visible")
            page.screenshot(path=str(folder / f"trace-{name}.png"))
            page.close()


def chromium() -> str:
    """Return where Chromium is.

    Raises:
        SystemExit: nowhere.
    """
    for folder in os.environ["PATH"].split(os.pathsep):
        if (found := Path(folder) / "chromium").exists():
            return str(found)
    raise SystemExit("pictures need Chromium: apt-get install chromium")


def until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as `condition` holds.

    Raises:
        SystemExit: not within `WAIT_S`.
    """
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {WAIT_S:.0f} s: {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
