"""Takes documents apart: their fenced blocks, and the commands that a reader would type. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<indent> *)(?P<mark>`{3,}|~{3,})(?P<info>[^`\n]*)$")
INLINE = re.compile(
    r"(?<!`)`(?P<code>curl [^`]*(?:http:|\$URL)[^`]*|(?:make|docker|kubectl|\.venv/bin/python -m) [^`]+)`(?!`)"
)
"""Code within a sentence is a command where it can be pasted as it stands; `python -m app X` alone is a name."""
OPENS, CLOSES = re.compile(r"(?:^|[\s;])(?:do|then)(?=\s|$)"), re.compile(r"(?:^|[\s;])(?:done|fi)(?=[\s;|)]|$)")
GOES_ON = ("|", "&&", "||", "\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. `line` is where its text begins, from 1; `more` is what stands behind the language."""

    document: str
    line: int
    language: str
    more: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a reader types at once. `text` is as it is written, `flat` the same in one line and without comments."""

    document: str
    line: int
    text: str
    flat: str


def blocks_of(document: str, markdown: str) -> list[Block]:
    """Return a document's fenced blocks, without the indentation that they share with their fence.

    Raises:
        ValueError: a block does not end.
    """
    found: list[Block] = []
    fence, begun, inside = None, 0, list[str]()
    for number, line in enumerate(markdown.splitlines(), 1):
        if fence is None:
            if fence := FENCE.match(line):
                begun, inside = number, []
        elif line.strip() == fence["mark"]:
            language, _, more = fence["info"].strip().partition(" ")
            text = "".join(f"{each}\n" for each in inside)
            found.append(Block(document=document, line=begun + 1, language=language, more=more.strip(), text=text))
            fence = None
        else:
            inside.append(line.removeprefix(fence["indent"]))
    if fence is not None:
        raise ValueError(f"{document}:{begun}: the block does not end")
    return found


def without_blocks(markdown: str) -> str:
    """Return a document's prose, with an empty line in the place of each line of a block."""
    lines, fence = [], None
    for line in markdown.splitlines():
        begins = FENCE.match(line) if fence is None else None
        lines.append("" if begins or fence else line)
        if begins:
            fence = begins
        elif fence is not None and line.strip() == fence["mark"]:
            fence = None
    return "\n".join(lines)


def commands_of(document: str, markdown: str) -> list[Command]:
    """Return what a document has its reader type, in its order: `sh` blocks, and commands within sentences."""
    found = [command for block in blocks_of(document, markdown) if block.language == "sh" for command in _typed(block)]
    prose = without_blocks(markdown)
    for match in INLINE.finditer(prose):
        text = match["code"].replace("\\|", "|")  # as a cell of a table has to write it
        line = prose.count("\n", 0, match.start()) + 1
        found.append(Command(document=document, line=line, text=text, flat=" ".join(text.split())))
    return sorted(found, key=lambda command: command.line)


def _typed(block: Block) -> Iterator[Command]:
    begun, lines = block.line, list[str]()
    for number, line in enumerate(block.text.splitlines(), block.line):
        if not lines:
            begun = number
        lines.append(line)
        text = "\n".join(lines)
        flat = flattened(text)
        if not _is_whole(text):
            continue
        if flat:
            yield Command(document=block.document, line=begun, text=text, flat=flat)
        lines = []
    if lines:
        raise ValueError(f"{block.document}:{begun}: the command does not end")


def flattened(text: str) -> str:
    """Return a command in one line, without its comments."""
    kept, quote = "", ""
    for line in text.replace("\\\n", " ").splitlines():
        for place, letter in enumerate(line):
            if quote:
                quote = "" if letter == quote else quote
            elif letter in "'\"":
                quote = letter
            elif letter == "#" and (place == 0 or line[place - 1].isspace()):
                break
            kept += letter
        kept += " "
    return " ".join(kept.split())


def _is_whole(text: str) -> bool:
    if text.endswith("\\"):
        return False
    bare = re.sub(r"'[^']*'|\"(?:\\.|[^\"\\])*\"", "''", flattened(text))
    if "'" in bare.replace("''", "") or '"' in bare or bare.endswith(GOES_ON):
        return False
    return len(OPENS.findall(bare)) == len(CLOSES.findall(bare))
