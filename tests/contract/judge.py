"""Judges what a server answered by the contract, and more strictly than it: a field that it does not name is wrong."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator

from tests.server.process import PROJECT_ROOT

COPY = PROJECT_ROOT / "docs" / "openapi.json"
Document = dict[str, Any]


@cache
def committed() -> Document:
    """Return the copy of the contract that is committed."""
    document: Document = json.loads(COPY.read_text("utf-8"))
    return document


class Judge:
    """Knows a contract.

    Args:
        document: the contract.
        closed: whether an object may have only the fields that the contract names.
    """

    def __init__(self, document: Document, *, closed: bool = True) -> None:
        self.document = deepcopy(document)
        if closed:
            _close(self.document["components"]["schemas"])
        self._validators: dict[str, Draft202012Validator] = {}

    def faults(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        """Return what is wrong with a value by a schema of the document."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[key] = Draft202012Validator(whole, validate_formats=True)
        return [f"{list(error.instance_path)}: {error.message}" for error in self._validators[key].iter_errors(value)]

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """Return what the contract says of a request, None when nothing."""
        for template, operations in self.document["paths"].items():
            if method.lower() in operations and _fits(template, path):
                found: dict[str, Any] = operations[method.lower()]
                return found
        return None

    def response(self, method: str, path: str, status: int) -> dict[str, Any] | None:
        """Return what the contract says of an answer, None when nothing."""
        operation = self.operation(method, path)
        if operation is None:
            name = {404: "NotFound", 405: "MethodNotAllowed"}.get(status)
            return self._resolved({"$ref": f"#/components/responses/{name}"}) if name else None
        said = operation["responses"].get(str(status))
        return None if said is None else self._resolved(said)

    def verdict(self, method: str, path: str, status: int, headers: Mapping[str, str], body: str) -> list[str]:
        """Return all that is wrong with an answer. That to a HEAD is judged as a GET's without its body."""
        bare = method.upper() == "HEAD"
        said = self.response("GET" if bare else method, path, status)
        if said is None:
            return [f"{method} {path}: {status} is not described"]
        wrong = list(self._headers(said["headers"], headers))
        if bare or not said.get("content"):
            return wrong + ([f"a body where there is none: {body[:80]}"] if body else [])
        media = headers.get("content-type", "").partition(";")[0]
        if media not in said["content"]:
            return [*wrong, f"{method} {path}: {status} as {media!r} is not described"]
        return wrong + self._body(said["content"][media], media, body)

    def _headers(self, said: Mapping[str, Any], headers: Mapping[str, str]) -> list[str]:
        wrong = []
        for name, reference in said.items():
            header = self._resolved(reference)
            if name in headers:
                value = int(headers[name]) if header["schema"].get("type") == "integer" else headers[name]
                wrong += [f"{name}: {fault}" for fault in self.faults(header["schema"], value)]
            elif header.get("required"):
                wrong.append(f"{name}: missing")
        return wrong

    def _body(self, content: Mapping[str, Any], media: str, body: str) -> list[str]:
        if media == "text/event-stream":
            return self.stream_faults(content["x-sse-parts"], body)
        return self.faults(content["schema"], json.loads(body) if media.endswith("json") else body)

    def stream_faults(self, schema: Mapping[str, Any], body: str) -> list[str]:
        """Return what is wrong with the parts of a stream."""
        events = [event for event in body.split("\n\n") if event and not event.startswith(":")]
        if not events or events[-1] != "data: [DONE]":
            return [f"the stream does not end with [DONE]: {body[-100:]!r}"]
        return [
            f"{event}: {fault}"
            for event in events[:-1]
            for fault in self.faults(schema, json.loads(event.removeprefix("data: ")))
        ]

    def _resolved(self, said: Mapping[str, Any]) -> dict[str, Any]:
        while "$ref" in said:
            at: Any = self.document
            for step in said["$ref"].removeprefix("#/").split("/"):
                at = at[step]
            said = at
        return dict(said)


@dataclass(slots=True)
class Recorder:
    """Judges every answer that its client is given; read `wrong` at the end. `seen` is what came: id, status, media."""

    judge: Judge
    wrong: list[str] = field(default_factory=list)
    seen: set[tuple[str, int, str]] = field(default_factory=set)

    def client(self, base_url: str, **headers: str) -> httpx.Client:
        """Return a client whose answers are judged."""
        return httpx.Client(
            base_url=base_url, headers=headers, timeout=20, trust_env=False, event_hooks={"response": [self._take]}
        )

    def _take(self, response: httpx.Response) -> None:
        response.read()
        method, path = response.request.method, response.request.url.raw_path.decode().partition("?")[0]
        found = self.judge.verdict(method, path, response.status_code, response.headers, response.text)
        self.wrong += [f"{method} {path} {response.status_code}: {fault}" for fault in found]
        operation = self.judge.operation("GET" if method == "HEAD" else method, path)
        media = response.headers.get("content-type", "").partition(";")[0]
        self.seen.add((operation["operationId"] if operation else "", response.status_code, media))


def _fits(template: str, path: str) -> bool:
    """Return whether a path is one of a template's; a literal goes before a name, so templates are asked in order."""
    wanted, given = template.strip("/").split("/"), path.strip("/").split("/")
    same = len(wanted) == len(given)
    return same and all(want == have or want.startswith("{") for want, have in zip(wanted, given, strict=True))


def _close(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for key, inner in schema.items():
            if key != "contains":  # what one item must have says nothing of what it may have
                _close(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _close(inner)


def read_copy(path: Path = COPY) -> str:
    """Return the committed copy as it is written."""
    return path.read_text("utf-8")
