"""An answer that fits a JSON schema (structured outputs): a pure function of schema and question.

Only what structured outputs take is known: objects with all properties required, arrays, texts, numbers with bounds,
booleans, enums, null by a type list. Every text says the question's topic, so that a reader sees where it came from.
"""

import json
from collections.abc import Mapping
from typing import Any


def instance_text(schema: Mapping[str, Any], topic: str) -> str:
    """Return JSON that fits `schema`, with `topic` as its texts."""
    return json.dumps(instance(schema, topic), ensure_ascii=False, separators=(",", ":"))


def instance(schema: Mapping[str, Any], topic: str) -> Any:
    """Return a value that fits `schema`: of a nullable text the text, of a nullable date null, of an array one item."""
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type")
    kind = next((one for one in kinds if one != "null"), "null") if isinstance(kinds, list) else kinds
    if kind == "object":
        return {name: instance(of, topic) for name, of in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {}), topic)]
    if kind == "string":
        return None if "format" in schema and isinstance(kinds, list) else topic
    return {"integer": schema.get("minimum", 0), "number": schema.get("minimum", 0), "boolean": False}.get(str(kind))
