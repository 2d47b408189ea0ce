"""What the snapshot reads out of a conversation."""

from datetime import timedelta

import pytest

from app.generate.agent.snapshot import snapshot
from app.generate.agent.values import Snapshot
from app.turn import Project
from tests.generate.agent.histories import NOW, said, view

PROJECT = Project(id=7, theme="川のごみ", question="なぜ増えるのか", hypothesis="雨の後に増える")


def of(message: str, *earlier: str) -> Snapshot:
    return snapshot(said(*earlier), message, None, NOW)


def test_japanese_fields() -> None:
    """Goal, purpose, horizon, last action, resource and both open points are found in Japanese."""
    now = of(
        "今週中に発表です。何を測ればいいかわからないし、誰に聞けばいいかも分かりません。",
        "川のごみについて調べたいです。町に役立てたいからです。昨日ごみを数えました。図書館で地図を借りられます。",
    )
    assert now.goal == "川のごみについて調べたいです。"
    assert now.purpose == "町に役立てたいからです。"
    assert now.time_horizon == "今週中"
    assert now.last_action == "昨日ごみを数えました。"
    assert now.resources == ("図書館で地図を借りられます。",)
    assert now.uncertainties == ("何を測ればいいかわからないし", "誰に聞けばいいかも分かりません。")


def test_english_fields() -> None:
    """The same in English."""
    now = of(
        "I have to finish by Friday and I don't know what to measure, or who to ask.",
        "I want to find out why rivers have plastic. It matters because I swim there. I counted bottles. "
        "I can use the school lab.",
    )
    assert now.goal == "I want to find out why rivers have plastic."
    assert now.purpose == "It matters because I swim there."
    assert now.time_horizon == "by friday"
    assert now.last_action == "I counted bottles."
    assert now.resources == ("I can use the school lab.",)
    assert len(now.uncertainties) == 2


def test_nothing_said() -> None:
    """Without words everything is unknown, and no message is new."""
    now = of("👍🏽🧑‍🔬")
    assert (now.goal, now.time_horizon, now.last_action, now.uncertainties) == (None, None, None, ())
    assert now.progress_signal.novelty_ratio == 0.0


def test_project() -> None:
    """A project gives its id, its context, and the goal as long as the student states none."""
    now = snapshot([], "はい", PROJECT, NOW)
    assert (now.project_id, now.goal) == (7, "なぜ増えるのか")
    assert now.project_context == "川のごみ / なぜ増えるのか / 雨の後に増える"
    assert snapshot([], "海の温度を調べたいです", PROJECT, NOW).goal == "海の温度を調べたいです"


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("アンケートかインタビューか、どっちにするか迷っています。", ("アンケート", "インタビュー")),
        ("棒グラフと折れ線グラフのどちらがよいですか？", ("棒グラフ", "折れ線グラフ")),
        ("AとBとCとD、どの方法を選べばいいか決められません。", ("A", "B", "C", "D")),
        ("候補は、川の水質、校庭の気温、給食の食べ残しの3つです。", ("川の水質", "校庭の気温", "給食の食べ残し")),
        ("Should I do a survey or interviews?", ("survey", "interviews")),
        ("Poster, video, podcast, slides: which format is best?", ("Poster", "video", "podcast", "slides")),
        ("I'm torn between studying noise and studying light.", ("studying noise", "studying light")),
        ("相関と因果の違いは何ですか？", ()),
        ("What is the difference between correlation and causation?", ()),
    ],
)
def test_options(message: str, options: tuple[str, ...]) -> None:
    """What a student chooses between is listed; two things that are only compared are no options."""
    assert of(message).options_considered == options


def test_actions_of_seven_days() -> None:
    """Reports of something done count for seven days, the last message's own included; wishes and older ones do not."""
    history = [
        *said("図書館で調べました。", ago=timedelta(days=8)),
        *said("インタビューをしました。", "調べたいです。", ago=timedelta(days=2)),
    ]
    assert snapshot(history, "昨日ごみを数えました。", None, NOW).progress_signal.actions_in_last_7_days == 2
    assert snapshot(history, "数えるつもりです。", None, NOW).progress_signal.actions_in_last_7_days == 1


@pytest.mark.parametrize("message", ["何を調べればいいですか、先生？", "What should I look at in the river?"])
def test_novelty(message: str) -> None:
    """A first message is all new, its repetition not at all, and one with some new words is between."""
    assert of(message).progress_signal.novelty_ratio == 1.0
    assert of(message, message).progress_signal.novelty_ratio == 0.0
    assert 0 < of(message + " 水温 temperature", message).progress_signal.novelty_ratio < 1


def test_repetition_is_looping_from_the_third_time() -> None:
    """A question asked for the third time is going in circles; asked again once, or "yes" said often, is not."""
    ask = "どうすれば若者が投票に行くようになりますか？"
    assert of(ask, ask).progress_signal.looping_signals == ()
    assert of(ask, ask, ask).progress_signal.looping_signals == (ask,)
    assert of("はい", "はい", "はい", "はい").progress_signal.looping_signals == ()


@pytest.mark.parametrize(
    ("message", "least", "most"),
    [
        ("不安です。", 3, 3),
        ("少し不安です。", 1, 2),
        ("とても不安で、緊張して眠れません。", 5, 5),
        ("不安はありません。", 0, 0),
        ("I'm worried.", 3, 3),
        ("I'm a bit worried.", 1, 2),
        ("I'm not worried any more.", 0, 0),
        ("楽しいです。", 0, 0),
    ],
)
def test_anxiety(message: str, least: int, most: int) -> None:
    """Anxiety grows with its words, an intensifier adds to it, a softener takes from it, a denial takes it back."""
    assert least <= of(message).affect.anxiety <= most


@pytest.mark.parametrize(
    ("message", "wide"),
    [
        ("テーマが広すぎると言われました。", True),
        ("My topic is too broad.", True),
        ("I want to study everything about climate change.", True),
        ("ミツバチの数が減っている原因に興味があります。", False),
        ("I only look at one street in my town.", False),
        ("We narrowed it to one street.", False),
    ],
)
def test_breadth(message: str, wide: bool) -> None:
    """Who says that it is too broad, or aims at everything, is over 7; who aims at one thing is not."""
    assert (of(message).progress_signal.scope_breadth > 7) is wide


def test_unstorable_text_is_cleaned() -> None:
    """What a JSON column refuses is not passed on from a message into the snapshot."""
    made = view("\x00 \ud800 川のごみを調べたい\x00です\udfff")
    assert made.snapshot.goal == "川のごみを調べたい です"
