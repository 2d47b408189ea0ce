"""What the tables of operations are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

JSON = "application/json"
Security = Literal["open", "user", "ops"]
Problems = Literal["json", "text", "either"]
Tag = Literal["chat", "agent", "conversations", "health", "ops", "contract"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that is no error.

    Args:
        says: what it means.
        content: media type to schema; a name is a component, `[name]` a list of it, several by bars one of them.
        examples: names in `examples.ANSWERS`.
        headers: name to component, beside those that every answer has.
    """

    says: str
    content: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method at an address.

    Args:
        rule: as the router has it.
        parameters: names in `parameters.PARAMETERS`, those of the path too.
        bodies: models of the request's body, one of which it must be.
        codes: of its own errors; those that anything may be answered with are not among them.
        problems: whether errors are `application/problem+json`, the sentence alone, or either by the body.
        counted: whether it costs a turn, so that answers say what is left of the user's.
        timed: whether errors say how long the turn's stages took.
    """

    method: Literal["get", "post", "put", "patch", "delete"]
    rule: str
    id: str
    tag: Tag
    summary: str
    says: str = ""
    security: Security
    parameters: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()
    answers: Mapping[int, Answer]
    codes: tuple[str, ...] = ()
    problems: Problems = "json"
    counted: bool = False
    timed: bool = False


def one(schema: str, says: str, example: str, **headers: str) -> Answer:
    """Return an answer of one schema, with one example."""
    return Answer(says=says, content={JSON: schema}, examples=(example,), headers=headers)
