"""The server of compose.yaml on this machine: its image's files, its environment, its gateway, loopback neighbours."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.clients.in_process import AsgiApp, Message
from tests.grafana.composed import (
    FOLDER,
    ROOT,
    SERVICES,
    copied_from_here,
    environment_of,
    prometheus_file,
    read_yaml,
)
from tests.needs import need_program
from tests.prometheus import Prometheus
from tests.receivers import OtlpReceiver, otlp_receiver
from tests.server.neighbours import Neighbour, database_host
from tests.server.process import ServerProcess, running, until

UNPRIVILEGED = ("nobody", "nogroup")
NOT_OF_COMPOSE = {"ENABLE_CHAT_RATE_LIMIT": "", "AUTH_FAILURES_MAX": ""}
"""What tests' servers are told besides, unset again."""


@dataclass
class Asked:
    """What stands before the embedded database, so that it answers as PostgREST does: at the root, and on /ready."""

    paths: list[str] = field(default_factory=list)

    def before(self, app: AsgiApp) -> AsgiApp:
        async def serve(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
            if scope["type"] == "http":
                self.paths.append(scope["path"])
                if scope["path"] == "/ready":
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    await send({"type": "http.response.body", "body": b""})
                    return
                scope = {**scope, "path": f"/rest/v1{scope['path']}"}
            await app(scope, receive, send)

        return serve


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The server with what is around it."""

    server: ServerProcess
    environment: Mapping[str, str]
    gateway_url: str
    postgrest: Asked
    postgrest_host: Neighbour
    receiver: OtlpReceiver
    prometheus: Prometheus
    folder: Path


@contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    """Run the server from the files of its image, with the environment that compose.yaml gives it."""
    asked = Asked()
    with (
        database_host(folder / "project.sqlite3", asked.before) as postgrest,
        gateway(postgrest.url) as gateway_url,
        otlp_receiver() as receiver,
    ):
        told = environment_of("server") | NOT_OF_COMPOSE
        told |= {"BIND": "127.0.0.1:0", "DATA_DIR": str(folder / "data"), "OTEL_BSP_SCHEDULE_DELAY": "50"}
        told |= {"SUPABASE_URL": gateway_url, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        told |= {"PYTHONPATH": str(image_files(folder / "srv"))}
        with running(folder / "data", **told) as server, scraping(server, folder) as prometheus:
            yield Demo(
                server=server,
                environment=told,
                gateway_url=gateway_url,
                postgrest=asked,
                postgrest_host=postgrest,
                receiver=receiver,
                prometheus=prometheus,
                folder=folder,
            )


def image_files(folder: Path) -> Path:
    """Copy what the Containerfile copies to /srv, and nothing else, into a folder."""
    for source, target in copied_from_here():
        if target.startswith("/srv/") and (ROOT / source).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, folder / target.removeprefix("/srv/"), ignore=ignore)
    return folder


@contextmanager
def gateway(postgrest_url: str) -> Iterator[str]:
    """Run nginx with the gateway's own file, in front of another PostgREST, as a user who may do nothing."""
    nginx, port = need_program("nginx", "apt-get install nginx-light", "/usr/sbin"), _free_port()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        folder.chmod(0o777)
        file = folder / "nginx.conf"
        file.write_text(_on_loopback((FOLDER / "gateway.conf").read_text("utf-8"), folder, port, postgrest_url))
        command = [nginx, *SERVICES["gateway"]["command"][1:], "-c", str(file), "-p", text]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stderr=log, **_unprivileged())
        try:
            until(lambda: _listens(port) or process.poll() is not None, "the gateway listens")
            assert process.poll() is None, (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def _on_loopback(config: str, folder: Path, port: int, postgrest_url: str) -> str:
    replaced = {
        "/tmp/": f"{folder}/",
        "listen 8000;": f"listen 127.0.0.1:{port};",
        "postgrest:3000": urlsplit(postgrest_url).netloc,
        "postgrest:3001": urlsplit(postgrest_url).netloc,
    }
    for there, here in replaced.items():
        assert there in config, there
        config = config.replace(there, here)
    return config


@contextmanager
def scraping(server: ServerProcess, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with the file that compose.yaml mounts, told where the server is; the other targets are not.

    Its first scrape comes some five seconds after its start: who waits for it comes last.
    """
    program, listen = need_program("prometheus", "apt-get install prometheus"), f"127.0.0.1:{_free_port()}"
    file = prometheus_file(folder)
    text = file.read_text().replace("_interval: 5s", "_interval: 1s")
    file.write_text(text.replace("server:8000", f"{server.address[0]}:{server.address[1]}"))
    command = [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=warn"]
    command += [f"--web.listen-address={listen}", "--scrape.discovery-reload-interval=100ms"]
    command += [flag for flag in SERVICES["prometheus"]["command"] if flag.startswith("--enable-feature")]
    api = Prometheus(f"http://{listen}", targets=len(read_yaml(file)["scrape_configs"]))
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: _is_ready(api.url) or process.poll() is not None, "Prometheus is ready")
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield api
    finally:
        api.close()
        process.terminate()
        process.wait(20)


def _unprivileged() -> dict[str, Any]:
    """Arguments of `subprocess`: as somebody who owns nothing, where we may choose."""
    user, group = UNPRIVILEGED
    return {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
