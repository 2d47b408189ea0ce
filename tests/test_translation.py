"""README.ja.md says what README.md says: section by section the same code, figures, names, links and pictures."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.readme.blocks import Block, blocks_of, flattened, without_blocks
from tests.test_links import slug_of

ROOT = Path(__file__).parent.parent
ENGLISH, JAPANESE = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.ja.md"))
OTHER = {"README.ja.md": "the other language", "README.md": "the other language"}
HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])\d+(?:,\d{3})*(?:\.\d+)*")
TAGS = re.compile(r"<code>.*?</code>|<[^>]+>")
REMARK = re.compile(r"(?:^|\s+)(?://|#|<-) .*")
WORDS = {
    "twice": 2, "two": 2, "both": 2, "second": 2, "half": 2, "three": 3, "third": 3, "four": 4, "five": 5, "six": 6,
    "seven": 7, "eight": 8, "nine": 9, "ten": 10, "tenth": 10, "twelve": 12, "twenty": 20,
}  # fmt: skip
"""What English says in a word where Japanese writes a figure. A 1 may stand anywhere: English has its article there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands under it until the next one."""

    level: int
    title: str
    text: str

    @property
    def prose(self) -> str:
        """The text without its blocks."""
        return without_blocks(self.text)

    @property
    def blocks(self) -> list[Block]:
        """The fenced blocks."""
        return blocks_of(self.title, self.text)

    @property
    def tables(self) -> list[list[list[str]]]:
        """The tables, as rows of cells."""
        found: list[list[list[str]]] = [[]]
        for line in self.prose.splitlines():
            if line.startswith("|"):
                found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
            elif found[-1]:
                found.append([])
        return [table for table in found if table]


def sections(text: str) -> list[Section]:
    """Return a document's sections, in order."""
    marks = list(HEADING.finditer(without_blocks(text)))
    lines, places = text.splitlines(), [without_blocks(text).count("\n", 0, match.start()) for match in marks]
    ends = [*places[1:], len(lines)]
    return [
        Section(level=len(match[1]), title=match[2], text="\n".join(lines[begin + 1 : end]))
        for match, begin, end in zip(marks, places, ends, strict=True)
    ]


def pairs() -> Iterator[tuple[Section, Section]]:
    """Yield each section with its translation, as far as there are both."""
    yield from zip(sections(ENGLISH), sections(JAPANESE), strict=False)


per_section = pytest.mark.parametrize(
    ("english", "japanese"), [pytest.param(*pair, id=pair[0].title) for pair in pairs()]
)


def test_the_headings_are_the_same() -> None:
    """As many, on the same levels, in the same order."""
    titles = [section.title for section in sections(ENGLISH)], [section.title for section in sections(JAPANESE)]
    levels = [[section.level for section in sections(text)] for text in (ENGLISH, JAPANESE)]
    assert levels[0] == levels[1], titles


@per_section
def test_the_code_is_the_same(english: Section, japanese: Section) -> None:
    """Each block, line by line, but for remarks, which may be in Japanese."""
    assert [code_of(block) for block in japanese.blocks] == [code_of(block) for block in english.blocks]


def code_of(block: Block) -> tuple[str, list[str]]:
    """Return a block's language and its lines without remarks."""
    strip = flattened if block.language == "sh" else lambda line: REMARK.sub("", line)
    return block.language, [strip(line).rstrip() for line in block.text.splitlines()]


@per_section
def test_the_tables_are_the_same(english: Section, japanese: Section) -> None:
    """As many rows and columns; in each row, and in its first cell, the same names in code."""
    assert [[len(row) for row in table] for table in japanese.tables] == [
        [len(row) for row in table] for table in english.tables
    ]
    for ours, theirs in zip(english.tables, japanese.tables, strict=True):
        for row, translated in zip(ours, theirs, strict=True):
            assert sorted(CODE.findall(translated[0])) == sorted(CODE.findall(row[0]))
            assert set(CODE.findall(" ".join(translated))) == set(CODE.findall(" ".join(row))), row


@per_section
def test_the_names_are_the_same(english: Section, japanese: Section) -> None:
    """What one has in code, the other has too."""
    names = [{" ".join(name.split()) for name in CODE.findall(section.prose)} for section in (english, japanese)]
    assert names[1] == names[0]


@per_section
def test_the_links_and_pictures_are_the_same(english: Section, japanese: Section) -> None:
    """They lead to the same files and addresses; those within the document to the heading of the same place."""
    assert links(japanese, JAPANESE) == links(english, ENGLISH)
    assert all(words.strip() for _, words, _ in LINK.findall(japanese.prose))


def links(section: Section, document: str) -> Counter[tuple[str, object]]:
    """Return where a section's links lead and which pictures it shows."""
    anchors = {slug_of(each.title): place for place, each in enumerate(sections(document))}
    prose = CODE.sub("", section.prose)
    found = [*LINK.findall(prose), *(("", to, to) for to in re.findall(r"<(https?://[^>]+)>", prose))]
    return Counter(
        (bang, anchors.get(to[1:], to) if to.startswith("#") else OTHER.get(to, to)) for bang, _, to in found
    )


@per_section
def test_the_figures_are_the_same(english: Section, japanese: Section) -> None:
    """Every number that one says the other says too; what English says in words may be a figure in Japanese."""
    ours, theirs = figures(english), figures(japanese)
    words = Counter(str(WORDS[word]) for word in re.findall(r"[a-z]+", english.prose.lower()) if word in WORDS)
    assert not ours - theirs, "left out"
    assert set(theirs - ours - words) <= {"1"}, "added"


def figures(section: Section) -> Counter[str]:
    """Return the numbers that a section's sentences say; names in code and addresses are compared by themselves."""
    text = LINK.sub(r"\2", CODE.sub(" ", section.prose))
    return Counter(NUMBER.findall(re.sub(r"https?://\S+", " ", text)))


def test_it_is_japanese() -> None:
    """Under every heading with sentences they are Japanese ones: no paragraph was left as it was."""
    for section in sections(JAPANESE):
        for paragraph in re.split(r"\n\s*\n", TAGS.sub("", CODE.sub("", section.prose))):
            words = re.findall(r"[A-Za-z]{2,}", LINK.sub(r"\2", paragraph))
            kana = re.findall(r"[぀-ヿ一-鿿]", paragraph)
            assert len(kana) >= len(words) or len(words) < 4, paragraph


def test_a_line_ends_with_its_paragraph() -> None:
    """Browsers show the end of a line between Japanese letters as a space, so a paragraph is one line."""
    prose = without_blocks(JAPANESE)
    assert re.findall(r"^(?![#|!<]).*\S\n(?![|<]|- |\d+\. )\S.*", prose, re.MULTILINE) == []
