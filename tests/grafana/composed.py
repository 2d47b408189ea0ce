"""compose.yaml as Docker Compose reads it, and the Containerfile: what is told, mounted, published and copied."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "compose.yaml"
FOLDER = ROOT / "compose"
PROVISIONING = ROOT / "grafana" / "provisioning"
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z][A-Z0-9_]*):-(?P<default>[^${}]*)\}")
"""The one form of a variable that is used here: with a default, for when it is unset or empty."""
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of this repository inside a container."""

    service: str
    source: Path
    target: str
    read_only: bool


def composed(**variables: str) -> dict[str, Any]:
    """Return the file with the variables in its texts replaced, by `variables` or by their defaults."""

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [replaced(inner) for inner in value]
        return (
            VARIABLE.sub(lambda found: variables.get(found[1]) or found[2], value) if isinstance(value, str) else value
        )

    read: dict[str, Any] = replaced(read_yaml(COMPOSE_FILE))
    return read


def environment_of(service: str) -> dict[str, str]:
    """Return what a service is told, without variables of ours."""
    told: dict[str, str] = composed()["services"][service]["environment"]
    return told


def mounts() -> Iterator[Mount]:
    """Return the bind mounts of all services; named volumes are none."""
    for name, service in composed()["services"].items():
        for text in service.get("volumes", ()):
            source, target, *options = text.split(":")
            if source.startswith("."):
                yield Mount(service=name, source=ROOT / source, target=target, read_only=options == ["ro"])


def outside(service: str, path: str) -> Path:
    """Return where a path of a service's container lies in this repository."""
    for mount in mounts():
        inside = PurePosixPath(path)
        if mount.service == service and inside.is_relative_to(mount.target):
            return mount.source / inside.relative_to(mount.target)
    raise KeyError(f"{service} has no {path}")


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text("utf-8"))


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Return each value with its dotted path; the items of a list share one, which ends in `[]`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, f"{at}[]")
    else:
        yield at, value


def instructions(path: Path = ROOT / "Containerfile") -> list[tuple[str, str]]:
    """Return the instructions of a Containerfile with their arguments, comments and line ends taken out."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    """Return the instructions from the last FROM on: what is shipped."""
    found = instructions()
    start = max(number for number, (verb, _) in enumerate(found) if verb == "FROM")
    return found[start:]


def copied_from_here() -> list[tuple[str, str]]:
    """Return the source and target of each COPY from the build's context."""
    copies = [argument.split() for verb, argument in instructions() if verb == "COPY" and "--from" not in argument]
    return [(source, target) for source, target in copies]


SERVICES: dict[str, dict[str, Any]] = composed()["services"]


def data_sources() -> dict[str, dict[str, Any]]:
    """Return Grafana's data sources by their uids."""
    (file,) = (PROVISIONING / "datasources").glob("*.yaml")
    return {source["uid"]: source for source in read_yaml(file)["datasources"]}


def seconds(text: str) -> float:
    """Return a duration such as `70s`."""
    return float(text[:-1]) * _SECONDS[text[-1]]


def prometheus_file(folder: Path) -> Path:
    """Write Prometheus's file for this machine: paths of the container become those of what is mounted there."""
    text = outside("prometheus", "/etc/prometheus/prometheus.yaml").read_text("utf-8")
    (token,) = SERVICES["prometheus"]["configs"]
    (folder / "ops-token").write_text(composed()["configs"][token["source"]]["content"])
    text = text.replace(token["target"], str(folder / "ops-token"))
    for path in re.findall(r"/etc/prometheus/\S+", text):
        text = text.replace(path, str(outside("prometheus", path)))
    written = folder / "prometheus.yaml"
    written.write_text(text)
    return written
