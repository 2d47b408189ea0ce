"""The reply of the rules, its follow-ups, and what a model is told."""

import re
from typing import get_args

import pytest

from app.generate.agent.follow_ups import follow_up_list, follow_ups
from app.generate.agent.language import Language, language_of
from app.generate.agent.reply import act_instructions, rule_reply
from app.generate.agent.rules import with_model
from app.generate.agent.values import SpeechAct, SupportType
from tests.generate.agent.histories import EVERY, view
from tests.generate.agent.labelled import Labelled


@pytest.mark.parametrize("item", EVERY, ids=lambda item: item.message[:20])
def test_performs_the_acts(item: Labelled) -> None:
    """A reply has one part per act, and a question whenever one of its acts asks."""
    message = item.message
    made = view(message)
    reply = rule_reply(made, message)
    assert len(reply.split("\n\n")) == len(made.acts.acts)
    if {"Reflect", "Clarify", "Probe"} & set(made.acts.acts):
        assert "？" in reply or "?" in reply


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("参考文献の探し方を教えてください。", "図書館の目録"),
        ("What is the difference between correlation and causation?", "is causation"),
        ("アンケートかインタビューか、どっちにするか迷っています。", "「アンケート」、「インタビュー」"),
        ("Should I do a survey or interviews?", '"survey", "interviews"'),
        ("発表が不安です。", "10分だけ"),
        ("発表までの流れを教えてほしいです。", "1. 問いを一文にする\n2. "),
    ],
)
def test_takes_up_what_was_said(message: str, words: str) -> None:
    """Facts, options, steps and stages in the reply are those of this student."""
    assert words in rule_reply(view(message), message)


def test_quotes_without_markup() -> None:
    """A quotation of the student carries no HTML and no Markdown into the reply."""
    message = "<script>alert(1)</script> **[x](y)** is my survey biased `{topic}`?"
    reply = rule_reply(view(message), message)
    assert not set("<>*[]`{}").intersection(reply)


def test_a_models_plan_in_another_language_is_not_quoted() -> None:
    """Steps of a model's plan in the other language do not get into the reply."""
    english, message = view("I'm worried."), "発表が不安です。"
    mixed = with_model(view(message), english.snapshot, english.plan)
    assert mixed.source == "model"
    assert "10分だけ" in rule_reply(mixed, message)


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("support", get_args(SupportType))
def test_follow_ups(support: SupportType, language: Language) -> None:
    """Every type offers three different follow-ups in each language; what an act proposed itself comes last."""
    plain = follow_ups(support, (), language)
    assert len(set(plain)) == 3
    assert all(language_of(item) == language for item in plain)
    assert follow_ups(support, ("Act",), language)[-1] == plain[0]


def test_follow_up_list() -> None:
    """The list stands under the heading that front ends look for; without follow-ups there is none."""
    assert follow_up_list(("比べる",), "ja") == "**次にできること:**\n- 比べる"
    assert follow_up_list(("Compare", "Ask"), "en") == "**What you can do next:**\n- Compare\n- Ask"
    assert follow_up_list((), "en") == ""


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("act", get_args(SpeechAct))
def test_instructions(act: SpeechAct, language: Language) -> None:
    """A model is told each act by name, in its order, in either language."""
    told = act_instructions(("Reflect", act) if act != "Reflect" else ("Reflect",), "道筋提示", language)
    assert language_of(told.splitlines()[-1]) == language
    assert "1. Reflect:" in told
    assert f"{act}:" in told


@pytest.mark.parametrize("item", EVERY, ids=lambda item: item.message[:20])
def test_quotes_the_topic_once(item: Labelled) -> None:
    """However many acts speak of the topic, the student's sentence is repeated to them once at most."""
    reply = rule_reply(view(item.message), item.message)
    quotes = [*re.findall("「(.{25,}?)」", reply), *re.findall('"(.{25,}?)"', reply)]
    assert len(quotes) == len(set(quotes))
