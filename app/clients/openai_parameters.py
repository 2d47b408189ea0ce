"""Parameters that some models refuse, and how those are asked instead. Pure.

OpenAI's newer models refuse `max_tokens`, which other hosts know alone, and each `temperature` but their own. Which one
it is, the refusal's `code` and `param` tell; what its text says is never looked at.
"""

from collections.abc import Collection, Mapping
from typing import Any

INSTEAD: Mapping[str, str | None] = {"max_tokens": "max_completion_tokens", "temperature": None}
"""The parameter that takes the place of a refused one; None leaves the matter to the model."""
_REFUSALS = (
    ("unsupported_parameter", "max_tokens"),
    ("unsupported_parameter", "temperature"),
    ("unsupported_value", "temperature"),
)


class ParameterRefusedError(Exception):
    """The model refuses parameter `name`, without which it can be asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def refused_parameter(status: int, error: Any, body: Mapping[str, Any]) -> str | None:
    """Return the parameter of a request's `body` that a refusal's `error` is about, if one can do without."""
    if status != 400 or not isinstance(error, dict) or (error.get("code"), error.get("param")) not in _REFUSALS:
        return None
    name: str = error["param"]
    return name if name in body else None


def fitted(body: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """Return a request's body with what takes the place of the parameters that its model refuses."""
    named = {name: INSTEAD[name] if name in refused else name for name in body}
    return {new: body[name] for name, new in named.items() if new is not None}
