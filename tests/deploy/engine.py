"""The Containerfile built and run without a container engine: a stage is a folder, what it runs is run in a chroot.

For root on Linux only. What would come from a registry is made up here: the base image is this machine's `/usr` and
`/etc` with its Python at `/usr/local`, left as the official image leaves it: with pip, without tests and bytecode.
"""

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from signal import SIGKILL
from string import Template

import httpx

from tests.grafana.composed import ROOT, instructions
from tests.needs import lack
from tests.server.process import WAIT_S, until

INSIDE = """
root=$1 local=$2 writable=$3; shift 3
mount --bind "$root" "$root"
mount --bind /usr "$root/usr" && mount -o remount,bind,ro "$root/usr"
mount --bind "$local" "$root/usr/local"
for device in null zero random urandom; do mount --bind /dev/$device "$root/dev/$device"; done
mount -t proc proc "$root/proc"
if [ -n "$writable" ]; then
  mount -o remount,bind,ro "$root/usr/local"
  mount -o remount,bind,ro "$root"
  mount --bind "$writable" "$root/data"
fi
exec chroot "$root" "$@"
"""
"""In a namespace of its own: what it mounts is gone with its first process. With a volume nothing else is writable."""
OF_MACHINE = (
    "hosts",
    "resolv.conf",
    "nsswitch.conf",
    "ssl",
    "ca-certificates",
    "pip.conf",
    "localtime",
    "ld.so.conf.d",
)
UPSTREAM_LEAVES_OUT = shutil.ignore_patterns(
    "test", "tests", "idle_test", "__pycache__", "*.pyc", "libpython*.a", "site-packages"
)


@dataclass
class Stage:
    """What an image is, as far as it has come: its files, apart from `/usr`, and what the instructions say."""

    folder: Path
    said: dict[str, list[str]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def local(self) -> Path:
        """What is `/usr/local`."""
        return self.folder / "local"

    def outside(self, path: str) -> Path:
        """Return where a path of the image is."""
        inside = PurePosixPath(path)
        if inside.is_relative_to("/usr/local"):
            return self.local / inside.relative_to("/usr/local")
        return self.root / inside.relative_to("/")

    def command(self, *command: str, volume: Path | None = None) -> list[str]:
        """Return what runs a command inside; with a volume nothing but that can be written."""
        mounted = [str(self.root), str(self.local), str(volume or "")]
        unshared = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        return [*unshared, "sh", "-ec", INSIDE, "inside", *mounted, *command]

    def run(self, script: str) -> None:
        """Do what a RUN says."""
        done = subprocess.run(
            self.command("sh", "-c", script), env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"RUN {script}\n{done.stdout}{done.stderr}"

    def as_user(self, *command: str, **told: str) -> list[str]:
        """Return a command as the image's user runs it, with nothing that could make it more."""
        (user,) = self.said["USER"]
        uid, gid = user.split(":")
        told = self.environment | told
        (workdir,) = self.said["WORKDIR"]
        limits = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        return [
            "setpriv", f"--reuid={uid}", f"--regid={gid}", *limits, "env", "-i", f"--chdir={workdir}",
            *(f"{name}={value}" for name, value in told.items()), *command,
        ]  # fmt: skip


def build(folder: Path, *, with_pip: bool) -> Stage:
    """Follow the Containerfile, and return its last stage.

    Args:
        with_pip: have pip fetch and install, as is written; else its packages are copied from where they are here.
    """
    if os.geteuid() != 0 or sys.prefix == sys.base_prefix or sys.base_prefix == "/usr":
        lack("only root can build an image here, from a virtual environment whose Python has a prefix of its own")
    stages, arguments = dict[str, Stage](), dict[str, str]()
    stage = Stage(folder / "none")
    for verb, text in instructions():
        match verb:
            case "ARG":
                name, _, arguments[name] = text.partition("=")
            case "FROM":
                image, _, name = text.partition(" AS ")
                stage = stages[name] = Stage(folder / (name or "last"))
                if image != "scratch":
                    _base_image(stage, folder / "python")
            case "COPY":
                _copy(stages, stage, *text.split())
            case "RUN" if text.startswith("pip ") and not with_pip:
                _copy_packages(stage)
            case "RUN":
                stage.run(text)
            case "ENV":
                stage.environment |= dict(pair.split("=", 1) for pair in text.split())
            case _:
                stage.said.setdefault(verb, []).append(Template(text).safe_substitute(arguments))
    return stage


def _base_image(stage: Stage, python: Path) -> None:
    for name in ("etc", "usr", "dev", "proc", "tmp"):
        (stage.root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (stage.root / name).symlink_to(f"usr/{name}")
    for name in ("null", "zero", "random", "urandom"):
        (stage.root / "dev" / name).touch()
    for path in filter(Path.exists, (Path("/etc") / name for name in OF_MACHINE)):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, stage.root / "etc" / path.name)
    (stage.root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (stage.root / "etc/group").write_text("root:x:0:\n")
    (stage.root / "etc/ld.so.conf").write_text("/usr/local/lib\ninclude /etc/ld.so.conf.d/*.conf\n")
    if not python.exists():
        _python(python)
    _linked(python, stage.local)
    passed = {
        name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("CERT_FILE")
    }
    stage.environment |= {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    } | passed
    stage.run("ldconfig")


def _python(target: Path) -> None:
    shutil.copytree(sys.base_prefix, target, symlinks=True, ignore=UPSTREAM_LEAVES_OUT)
    (packages,) = Path(sys.base_prefix).glob("lib/python3*/site-packages")
    for path in packages.iterdir():
        if path.name.startswith(
            ("pip", "setuptools", "wheel", "_distutils_hack", "distutils-precedence", "_sandboxing")
        ):
            beside = target / "lib" / packages.parent.name / "site-packages" / path.name
            beside.parent.mkdir(exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copy)(path, beside)


def _copy(stages: Mapping[str, Stage], stage: Stage, *words: str) -> None:
    *options, source, target = words
    if (source, target) == ("/", "/"):
        _linked(stages[options[0].partition("=")[2]].folder, stage.folder)
    elif options:
        shutil.copytree(stages[options[0].partition("=")[2]].outside(source), stage.outside(target), symlinks=True)
    else:
        for file in sent(ROOT / source):
            place = stage.outside(target if file == ROOT / source else f"{target}/{file.relative_to(ROOT / source)}")
            if target == "/":
                place = stage.root / source
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)


def _linked(source: Path, target: Path) -> None:
    """Copy a folder whose files are not written to any more, though they may go."""
    subprocess.run(["cp", "--archive", "--link", source, target], check=True)


def sent(path: Path) -> Iterator[Path]:
    """Return the files under a path that `.dockerignore` lets through, as far as it knows patterns."""
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file() and not _ignored(file.relative_to(ROOT).parts, rules):
            yield file


def _ignored(parts: tuple[str, ...], rules: list[str]) -> bool:
    ignored = False
    for rule in rules:
        name = rule.removeprefix("!")
        looked_at = parts if name.startswith("**/") else parts[:1]
        if any(fnmatch.fnmatchcase(part, name.removeprefix("**/")) for part in looked_at):
            ignored = not rule.startswith("!")
    return ignored


def _copy_packages(stage: Stage) -> None:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    wanted = {line.partition("==")[0] for line in lines if line[:1].isalnum()}
    (target,) = stage.outside("/venv").glob("lib/python3*/site-packages")
    for found in distributions(path=[path for path in sys.path if path.startswith(sys.prefix)]):
        if found.name.lower().replace("_", "-") in wanted:
            for file in found.files or ():
                if ".." not in file.parts and file.suffix != ".pyc":
                    (target / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(Path(str(found.locate_file(file))), target / file)


class Container:
    """The image's process, the first of its namespace, on a read-only root with one volume."""

    def __init__(self, image: Stage, volume: Path, port: int, log: Path, **told: str) -> None:
        self.log = log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S, trust_env=False)
        (entry,), (command,) = image.said["ENTRYPOINT"], image.said["CMD"]
        started = image.as_user(*_words(entry), *_words(command), BIND=f"127.0.0.1:{port}", **told)
        with log.open("w") as file:
            self._outer = subprocess.Popen(image.command(*started, volume=volume), stdout=file, stderr=file, env={})

    def wait_until_ready(self) -> float:
        """Wait until it takes turns, and return the seconds."""
        begun = time.monotonic()
        until(self._is_ready, "it is ready")
        return time.monotonic() - begun

    def _is_ready(self) -> bool:
        assert self._outer.poll() is None, self.log.read_text()
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def pid(self) -> int:
        """Return the process's number out here."""
        outer = self._outer.pid
        return int(Path(f"/proc/{outer}/task/{outer}/children").read_text())

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        return self._outer.wait(WAIT_S)

    def close(self) -> None:
        """End it by all means."""
        self.http.close()
        if self._outer.poll() is None:
            with suppress(ProcessLookupError, ValueError):
                os.kill(self.pid, SIGKILL)
            self._outer.wait(WAIT_S)


@contextmanager
def running_image(image: Stage, volume: Path, port: int, log: Path, **told: str) -> Iterator[Container]:
    """Run an image until the block ends."""
    container = Container(image, volume, port, log, **told)
    try:
        container.wait_until_ready()
        yield container
    finally:
        container.close()


def _words(text: str) -> list[str]:
    words: list[str] = json.loads(text)
    return words
