"""deploy/kubernetes as the API server would be given it: every object of every file, by kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.server.process import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
Object = dict[str, Any]


def objects() -> Iterator[tuple[Path, Object]]:
    """Return each object with its file."""
    for file in FILES:
        for found in yaml.safe_load_all(file.read_text("utf-8")):
            yield file, found


def of_kind(kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [found for _, found in objects() if found["kind"] == kind]


def the_only(kind: str) -> Object:
    """Return the one object of a kind."""
    (found,) = of_kind(kind)
    return found


def pod() -> Object:
    """Return what a pod is made of."""
    spec: Object = the_only("StatefulSet")["spec"]["template"]["spec"]
    return spec


def container() -> Object:
    """Return the pod's only container."""
    (found,) = pod()["containers"]
    return dict(found)


def told() -> dict[str, str]:
    """Return what a pod is told in clear."""
    data: dict[str, str] = the_only("ConfigMap")["data"]
    return data


def seconds(name: str) -> float:
    """Return a duration that a pod is told."""
    return float(told()[name])
