"""Every setting is in the README's table, with its unit, default and reason, and the table has nothing else."""

import re
from pathlib import Path

from pydantic.fields import FieldInfo

from app.settings import Settings

README = Path(__file__).parent.parent / "README.md"


def row(name: str, field: FieldInfo) -> str:
    """Return the table's line of a setting, as the code has it."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    default = "unset" if field.default in (None, "") else f"`{field.default}`"
    return f"| `{name.upper()}` | {default} | {extra['unit']} | {field.description} |"


def test_the_table_is_what_the_code_says() -> None:
    """The lines between the table's head and the `OTEL_*` line are the settings, one each, in order."""
    lines = README.read_text("utf-8").splitlines()
    head = lines.index("| variable | default | unit | what it is for |")
    table = lines[head + 2 : head + 2 + len(Settings.model_fields)]
    assert table == [row(name, field) for name, field in Settings.model_fields.items()]
    assert lines[head + 2 + len(table)].startswith("| `OTEL_*` |")


def test_no_other_variable_is_promised() -> None:
    """Each `UPPER_CASE` variable that the README or a guide names is a setting, a standard one, or one of make's.

    docs/ARCHITECTURE.md has names of the code instead: tests/test_architecture.py looks them up.
    """
    guides = {README, *(README.parent / "docs").glob("*.md")} - {README.parent / "docs/ARCHITECTURE.md"}
    named = {name for guide in guides for name in re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)", guide.read_text("utf-8"))}
    known = {name.upper() for name in Settings.model_fields} | {"NO_LOCAL_MODEL", "REQUIRE_ALL"}
    known |= {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"}  # read by the standard library
    assert {name for name in named if not name.startswith("OTEL_")} <= known
