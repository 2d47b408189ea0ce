"""What a student chooses between, taken from the sentence that says so.

`AかBか`, `AとBのどちら`, `A、B、C、どれ`, `A or B`, `A, B and C: which`, `torn between A and B`; and where it only says
what there is: `候補はA、B、C`, `A、B、Cの三つ`, `my ideas: A, B, C`.
"""

import re

from app.generate.agent.bounds import ENTRIES_MAX
from app.generate.agent.reading import Reading
from app.generate.agent.text import sentences, tidy

OPTION_CHARS = 60
SENTENCE_CHARS = 400
"""Of a sentence, so much is searched for an enumeration."""
OPTIONS_MAX = ENTRIES_MAX
LISTED_MIN = 2
"""An enumeration has at least so many members."""

_JA_ENDS = re.compile(
    r"(?:[、,]?\s*(?:の|で(?:は)?|なら|だと|と)?(?:うち)?[、,]?\s*(?:どちら|どっち|どれ|どの)"
    r"|[、,]?(?:の)?[0-9０-９二三四五六七八九]つ|(?:で|と)?(?:迷|悩)|、?決め|を選)"
)
_JA_BEGINS = re.compile(
    r"^.*?(?:(?:候補|案|選択肢|アイデア|アイディア)(?:は|として)|対象(?:を|は)|のですが[、,]?|けど[、,])[、,]?\s*"
)
_JA_NAMED_ENDS = re.compile(r"です|だ(?=。|$)|があ|を(?:考え|思)|が(?:気に|あ)|など")
_JA_BETWEEN = re.compile(
    r"[、,・/／]\s*(?:それとも|または|あるいは|もしくは)?|それとも|または|あるいは|もしくは"
    r"|か(?=[、,]|[^ぁ-んー])|(?<=[^ぁ-ん])と(?=[^ぁ-ん])|とか"
)
_JA_EITHER = re.compile(r"か[^か]{1,60}か|それとも|または|あるいは|もしくは")
_JA_TAIL = re.compile(r"(?:するべき|すべき|にする|をする|べき|にし|か|も|や|など|の)+$")
_EN_SIGN = re.compile(r"\bor\b|\bbetween\b|\bwhich\b|\boptions?\b|\bchoices?\b")
_EN_BEGINS = re.compile(
    r"^.*\b(?:between|whether to|whether i should|should (?:i|we)(?: do| use| study| choose)?"
    r"|could(?: test| use| do| study)?|options are|choices are|choose|pick|thinking about|considering"
    r"|(?:options|choices|candidates|alternatives|possibilities|ideas|topics|themes|questions)\b[^:,.]{0,30}(?:(?=:)|\bare)"
    r")\b[:,]?\s*|^which\b[^,]*,\s*",
    re.IGNORECASE,
)
_EN_ENDS = re.compile(r"\s*(?::|-|;|\.)?\s*\b(?:which|what is|what's|are my)\b.*$", re.IGNORECASE)
_EN_OR = re.compile(r"\s*,\s*(?:or|and)\b\s*|\s*,\s*|\s+or\s+|\s*/\s*", re.IGNORECASE)
_EN_AND = re.compile(r"\s*,\s*(?:or|and)\b\s*|\s*,\s*|\s+(?:or|and)\s+", re.IGNORECASE)
_EN_LEAD = re.compile(r"^(?:either|a|an|the|to|my|doing|do|using|use)\s+", re.IGNORECASE)


def options(reading: Reading) -> tuple[str, ...]:
    """Return the options that a message weighs or names, `OPTIONS_MAX` at most; none when it does neither."""
    if not reading.cues & {"decision", "options"}:
        return ()
    found = max((_listed(sentence) for sentence in sentences(reading.text)), key=len, default=())
    return found[:OPTIONS_MAX]


def _listed(sentence: str) -> tuple[str, ...]:
    sentence = tidy(sentence, SENTENCE_CHARS)
    pieces = _japanese(sentence) if re.search(r"[ぁ-ん]", sentence) else _english(sentence)
    shown = dict.fromkeys(option for piece in pieces if (option := tidy(piece, OPTION_CHARS)))
    return tuple(shown) if len(shown) >= LISTED_MIN else ()


def _japanese(sentence: str) -> list[str]:
    begun = _JA_BEGINS.sub("", sentence, count=1)
    end = _JA_ENDS.search(begun) or (_JA_NAMED_ENDS.search(begun) if begun != sentence else None)
    if end is None and not _JA_EITHER.search(begun):
        return []
    enumeration = begun[: end.start()] if end else begun.rstrip("。？?！!")
    return [_JA_TAIL.sub("", piece.strip(" 「」『』、")) for piece in _JA_BETWEEN.split(enumeration)]


def _english(sentence: str) -> list[str]:
    if not _EN_SIGN.search(sentence.lower()) and sentence.count(",") < LISTED_MIN:
        return []
    tail = _EN_ENDS.sub("", sentence.rstrip(".?! "))
    enumeration = _EN_BEGINS.sub("", tail or sentence.rstrip(".?! "))
    between = re.search(r"\bbetween\b", sentence, re.IGNORECASE)
    pieces = (_EN_AND if between else _EN_OR).split(enumeration)
    return [_EN_LEAD.sub("", piece.strip(" '\"")) for piece in pieces]
