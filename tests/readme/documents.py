"""The documents whose commands and examples are held to their word, as they stand in the checkout."""

from pathlib import Path

from tests.readme.blocks import Block, Command, blocks_of, commands_of

ROOT = Path(__file__).parents[2]
NAMED = ("README.md", "README.ja.md", "CONTRIBUTING.md", "grafana/RUNBOOK.md")


def texts() -> dict[str, str]:
    """Return each document by its path."""
    named = [ROOT / name for name in NAMED if (ROOT / name).exists()]
    paths = [*named, *sorted((ROOT / "docs").glob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths}


TEXTS = texts()
BLOCKS: list[Block] = [block for name, text in TEXTS.items() for block in blocks_of(name, text)]
COMMANDS: list[Command] = [command for name, text in TEXTS.items() for command in commands_of(name, text)]
