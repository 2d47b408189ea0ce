"""Which acts are chosen, and what changes them."""

import pytest

from app.generate.agent.acts import TABLE
from app.generate.agent.values import SpeechAct
from tests.generate.agent.histories import EVERY, replied, said, view, view_of


def test_the_tables_own_acts() -> None:
    """Without anything special a type gets its primary and secondary act, the question first."""
    assert view("ミツバチの数が減っている原因に興味があります。").acts.acts == ("Probe", "Inform")
    assert view("What should I do first, and what comes after that?").acts.acts == ("Clarify", "Outline")


def test_each_type_has_four_acts() -> None:
    """Two acts may give way at most, so four per type always leave two."""
    assert all(len(set(ranked)) == 4 for ranked in TABLE.values())


@pytest.mark.parametrize("message", ["不安で、AかBか決められません。", "I'm worried and can't decide."])
def test_anxiety_puts_reflect_first(message: str) -> None:
    """An anxious student's feeling is met before anything else, and the type's primary act stays."""
    assert view(message).acts.acts == ("Reflect", "Decide")


def test_looping_brings_reframe() -> None:
    """Who goes in circles in too wide a scope is asked, and given another view."""
    assert view("何度考えても同じ結論です。テーマが広すぎます。").acts.acts == ("Clarify", "Reframe")


def test_talk_without_action_brings_act() -> None:
    """After three messages without anything done a small step joins; not when something was done or is announced."""
    question = "塩はなぜ氷を溶かすのですか？"
    idle = said("なるほど、そうですか。", "次の話をします。", "氷のことです。")
    assert "Act" in view(question, idle).acts.acts
    assert "Act" not in view(question, [*idle, *said("氷で実験をしました。")]).acts.acts
    assert "Act" not in view(question + "明日やってみます。", idle).acts.acts
    assert "Act" not in view(question, idle[:2]).acts.acts


def test_a_brief_message_gets_one_act() -> None:
    """A word or an emoji is met with one act, a question."""
    assert view("はい").acts.acts == ("Probe",)
    assert view("👍🏽").acts.acts == ("Probe",)


def test_an_act_of_the_last_two_replies_gives_way() -> None:
    """An act that both last replies performed is replaced by the type's next; one of them alone does not matter."""
    message = "ミツバチの数が減っている原因に興味があります。"
    both = replied(["Probe", "Inform"], ["Probe", "Clarify"])
    assert view(message, both).acts.acts == ("Clarify", "Inform")
    assert view(message, replied(["Probe"], ["Clarify"])).acts.acts == ("Probe", "Inform")
    assert view(message, replied(["Probe"], ["Probe"], ["Clarify"])).acts.acts[0] == "Probe"


@pytest.mark.parametrize("stored", [None, 7, "Probe", {"Probe": 1}, [["Probe"]], [None, {}], ["probe", "Nonsense"]])
def test_stored_acts_may_be_anything(stored: object) -> None:
    """What an older back end left in `selected_acts` is passed over."""
    message = "ミツバチの数が減っている原因に興味があります。"
    assert view(message, replied(stored, stored)).acts.acts == ("Probe", "Inform")


def test_every_act_is_used() -> None:
    """Each of the eight acts is chosen for some labelled message."""
    used: set[SpeechAct] = {act for item in EVERY for act in view_of(item).acts.acts}
    assert used == {"Clarify", "Inform", "Probe", "Act", "Reframe", "Outline", "Decide", "Reflect"}
