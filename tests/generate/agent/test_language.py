"""Which language a student is answered in."""

import pytest

from app.generate.agent.language import Language, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("はい", "ja"),
        ("RCT って高校生でもできますか？", "ja"),
        ("ｶﾞｷﾞｸﾞ", "ja"),
        ("研究", "ja"),
        ("Where should I start?", "en"),
        ("كيف أختار موضوع البحث؟", "en"),
    ],
)
def test_of_the_message(text: str, language: Language) -> None:
    """Kana or kanji make a message Japanese, any other writing makes it English."""
    other: Language = "en" if language == "ja" else "ja"
    assert language_of(text, default=other) == language


@pytest.mark.parametrize("text", ["", "👍🏽🧑‍🔬", "12 ?", "A", "OK"])
def test_a_message_that_does_not_tell(text: str) -> None:
    """Emoji, digits and a letter or two are in the language of the newest message that tells, else in the default."""
    assert language_of(text, ["😀", "はい、そうです", "Yes, it is"]) == "ja"
    assert language_of(text, ["Yes, it is", "はい"]) == "en"
    assert language_of(text) == "en"
    assert language_of(text, default="ja") == "ja"


def test_reads_no_further_than_needed() -> None:
    """Earlier messages are not read when the last one tells."""

    previous = iter(["Yes, it is"])
    assert language_of("はい", previous) == "ja"
    assert next(previous) == "Yes, it is"
