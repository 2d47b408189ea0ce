"""The precedence of the support table, row against row."""

import pytest

from app.generate.agent.values import SupportType
from tests.generate.agent.histories import said, view


@pytest.mark.parametrize(
    ("message", "support"),
    [
        ("何度考えても同じ結論です。テーマが広すぎます。", "絞り込み"),
        ("何度考えても同じ結論で、AかBか決められません。", "視点転換"),
        ("不安で、AかBか決められません。", "意思決定"),
        ("不安です。テーマが広すぎます。", "絞り込み"),
        ("予想と違う結果で不安です。", "視点転換"),
        ("不安です。何から始めればいいですか。", "行動活性化"),
        ("何から始めればいいですか。", "道筋提示"),
        ("I'm going in circles and my topic is too broad.", "絞り込み"),
        ("I'm going in circles and can't decide.", "視点転換"),
        ("I'm worried and can't decide.", "意思決定"),
        ("I'm worried. Where should I start?", "行動活性化"),
        ("Where should I start?", "道筋提示"),
        ("👍🏽", "理解深化"),
        ("", "理解深化"),
    ],
)
def test_precedence(message: str, support: SupportType) -> None:
    """Of two rows that fit, the upper one decides."""
    assert view(message).support.type == support


def test_an_active_student_who_worries_is_not_pushed() -> None:
    """Anxiety calls for action only when little was done: two reports in the week are not little."""
    worried = "発表が不安です。"
    assert view(worried).support.type == "行動活性化"
    assert view(worried, said("資料を読みました。", "先生に聞きました。")).support.type == "理解深化"


def test_reason_is_in_the_students_language() -> None:
    """The reason is given in the language of the student's message."""
    assert view("不安です。").support.reason == "不安が高く、最近の行動が少ないため。"
    assert view("I'm worried.").support.reason == "Anxiety is high and little was done lately."


NAMED = [
    "I have four ideas for my topic: bees, rivers, plastic, and noise.",
    "Four options: bees, rivers, plastic, noise.",
    "My ideas: bees, rivers, plastic, noise, trees.",
    "We are thinking about surveys, interviews, observation, experiments.",
    "候補は川のごみ、ミツバチ、騒音、植物です。",
    "テーマの案として、川のごみ、ミツバチ、騒音、植物を考えています。",
    "アンケート、インタビュー、観察、実験の4つがあります。",
]


@pytest.mark.parametrize("message", NAMED)
def test_more_than_three_options_call_for_a_decision(message: str) -> None:
    """Also where nobody asks which to take: it is enough that they are named."""
    seen = view(message)
    assert len(seen.snapshot.options_considered) > 3
    assert seen.support.type == "意思決定"
    assert seen.support.reason in ("More than three options are on the table.", "選択肢が四つ以上あるため。")


@pytest.mark.parametrize("message", ["Three options: bees, rivers, noise.", "案は、川のごみ、ミツバチ、騒音です。"])
def test_three_options_that_are_named_do_not(message: str) -> None:
    """They are known all the same."""
    seen = view(message)
    assert len(seen.snapshot.options_considered) == 3
    assert seen.support.type == "理解深化"
