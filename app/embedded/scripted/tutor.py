"""What the scripted tutor says: a pure function of the messages, so the same prompt always gets the same words.

It answers in the language of the last question (Japanese when that holds kana or kanji, else English): something plain
first, then one question, then one small next step. Of the question it repeats a cut, escaped piece; of the history it
knows how many turns there were; of the system prompt it uses the project line `[テーマ:…|問い:…|仮説:…]`, whose fields
may be missing.
"""

import html
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.embedded.scripted.request import Message
from app.embedded.scripted.structured import instance_text

CHARS_PER_TOKEN = 4  # a token of this model is four characters, in every language
TOPIC_MAX_CHARS = 40

_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff々]")
_PROJECT = re.compile(r"\[(?:テーマ|問い|仮説):[^\]\n]*\]")
_FIELD = re.compile(r"(テーマ|問い|仮説):([^|\]]+)")
_FAULT_MARKER = re.compile(r"\[\[fault:.*?\]\]", re.DOTALL)
_NOT_PRINTED = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """One language's sentences; of each tuple, the question's checksum picks one."""

    first: str
    later: str
    project: str
    labels: Mapping[str, str]
    joint: str
    nothing: str
    between: str
    plain: tuple[str, ...]
    asks: tuple[str, ...]
    steps: tuple[str, ...]


PHRASES: Mapping[str, Phrases] = {
    "ja": Phrases(
        first="「{topic}」についてですね。",
        later="これで{turn}回目のやり取りですね。今度は「{topic}」について考えましょう。",
        project="あなたの研究（{fields}）につなげて考えます。",
        labels={"テーマ": "テーマ「{}」", "問い": "問い「{}」", "仮説": "仮説「{}」"},
        joint="、",
        nothing="いまの話",
        between="",
        plain=(
            "まず、観察できることと、そこから考えたことを分けると整理できます。",
            "一度に全部を調べるより、変える条件を一つだけにするとはっきりします。",
            "答えは一つとは限らないので、根拠になるデータがあるかどうかで比べます。",
        ),
        asks=(
            "あなたが一番知りたいのは、どの部分ですか？",
            "もし予想が正しければ、何が見えるはずだと思いますか？",
            "それを確かめるために、身近で測れるものは何ですか？",
        ),
        steps=(
            "次の小さな一歩として、知りたいことを一文で書いてみましょう。",
            "次の小さな一歩として、今日10分で試せる観察を一つ決めましょう。",
            "次の小さな一歩として、関係しそうな資料を一つだけ探してみましょう。",
        ),
    ),
    "en": Phrases(
        first='About "{topic}".',
        later='This is turn {turn} of our talk, now about "{topic}".',
        project="I keep your project in mind: {fields}.",
        labels={"テーマ": 'theme "{}"', "問い": 'question "{}"', "仮説": 'hypothesis "{}"'},
        joint=", ",
        nothing="this",
        between=" ",
        plain=(
            "It becomes clearer once you separate what you can observe from what you conclude.",
            "Change one condition at a time, and the result will tell you what that condition does.",
            "There may be more than one answer, so compare them by the data that supports each.",
        ),
        asks=(
            "Which part of it do you want to know most?",
            "If your guess is right, what would you expect to see?",
            "What could you measure close to home to check it?",
        ),
        steps=(
            "A small next step: write down what you want to know in one sentence.",
            "A small next step: choose one observation that you can make in ten minutes today.",
            "A small next step: find a single source that speaks about it.",
        ),
    ),
}


def answer(messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> str:
    """Return the tutor's words for a prompt with at least one user message; JSON, when a schema wants that."""
    questions = [message.text for message in messages if message.role == "user"]
    question = _FAULT_MARKER.sub(" ", questions[-1])
    if schema is not None:
        return instance_text(schema, _quoted(question))
    phrases = PHRASES[language(question)]
    topic = _quoted(question) or phrases.nothing
    opening = phrases.first if len(questions) == 1 else phrases.later
    pick = zlib.crc32(question.encode("utf-8", "replace"))
    sentences = [
        opening.format(topic=topic, turn=len(questions)),
        *_project(messages, phrases),
        phrases.plain[pick % len(phrases.plain)],
        phrases.asks[pick // 3 % len(phrases.asks)],
        phrases.steps[pick // 9 % len(phrases.steps)],
    ]
    return phrases.between.join(sentences)


def language(text: str) -> str:
    """Return "ja" when `text` holds kana or kanji, else "en"."""
    return "ja" if _JAPANESE.search(text) else "en"


def tokens(text: str) -> list[str]:
    """Return `text` cut into this model's tokens; joined they are `text` again."""
    return [text[start : start + CHARS_PER_TOKEN] for start in range(0, len(text), CHARS_PER_TOKEN)]


def prompt_tokens(messages: Sequence[Message]) -> int:
    """Return the prompt's size: the sum over the messages of characters / 4, rounded up."""
    return sum(-(-len(message.text) // CHARS_PER_TOKEN) for message in messages)


def _project(messages: Sequence[Message], phrases: Phrases) -> list[str]:
    for message in messages:
        if message.role in ("system", "developer") and (found := _PROJECT.search(message.text)):
            fields = (phrases.labels[label].format(_quoted(text)) for label, text in _FIELD.findall(found[0]))
            return [phrases.project.format(fields=phrases.joint.join(fields))]
    return []


def _quoted(text: str) -> str:
    """Return `text` on one line, cut, and harmless wherever it is shown."""
    line = _NOT_PRINTED.sub(" ", text.encode("utf-8", "replace").decode()).strip()
    cut = line if len(line) <= TOPIC_MAX_CHARS else line[: TOPIC_MAX_CHARS - 1] + "…"
    return html.escape(cut, quote=False)
