"""The agent as a speaker, on virtual time: what runs beside what, what falls back to rules, and what is stored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.clients.ports import ModelEnd, ModelRequest, OnText
from app.edge.turn_feed import TurnEnd
from app.embedded.scripted.structured import instance
from app.errors import CallerFault, Fault, ModelFault
from app.generate.agent.schema import SCHEMA
from app.generate.agent_speaker import OWN_COST_S, PATIENCE
from app.turn import TurnOutcome, TurnRequest
from tests.standins import Before, MemoryDatabase, PacedModel, after, at_once, failing, never, open_house, question

DOWN = ModelFault("model_error", error_type="http_500")
STATE = json.dumps(instance(SCHEMA, "the model's words"))


@dataclass
class TwoCalls:
    """`ChatModel` that replies at its own pace, and gives the learner's state at another."""

    reply: PacedModel
    study: PacedModel

    name = "paced"
    host = ("model.test", 443)
    provider = "test"

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        return await (self.study if request.schema else self.reply).answer(request, on_text)


def two_calls(*, reply: Before = at_once, study: Before = at_once, state: str = STATE) -> TwoCalls:
    return TwoCalls(PacedModel(pieces=[(reply, "Well done.")]), PacedModel(pieces=[(study, state)]))


def agent_question(message: str = "I am so anxious, nothing works.", **fields: Any) -> TurnRequest:
    return question(message, surface="agent", feature="agent", newest=50, **fields)


def answered(result: TurnOutcome | Fault) -> TurnOutcome:
    assert isinstance(result, TurnOutcome), result
    return result


def reply_of(outcome: TurnOutcome) -> Mapping[str, Any]:
    assert outcome.draft.agent is not None
    return outcome.draft.agent.as_reply()


async def test_rules_alone_answer_in_mock_mode(autojump_clock: MockClock) -> None:
    """With `mock_mode` the model is not asked, no slot is taken, and the turn takes no time."""
    database, model = MemoryDatabase(), two_calls(reply=never)
    async with open_house(database, model, slots=1) as house, trio.open_nursery() as nursery:
        nursery.start_soon(house.ask, agent_question("hold the only slot"))
        await trio.sleep(0.1)
        end = await house.ask(agent_question(by_rules=True))
        nursery.cancel_scope.cancel()
    outcome = answered(end.result)
    assert (outcome.draft.model, outcome.draft.fallback, outcome.draft.text != "") == ("rules", None, True)
    assert end.clock.seconds("chat.turn") == 0.0
    assert "agent_processing_time" in end.clock.performance_metrics()


async def test_the_models_state_comes_beside_the_reply(autojump_clock: MockClock) -> None:
    """State and plan from the model run beside the reply: the turn takes the longer of the two, not the sum."""
    async with open_house(model=two_calls(reply=after(2), study=after(1.5))) as house:
        end = await house.ask(agent_question())
    outcome = answered(end.result)
    assert end.clock.seconds("chat.turn") == pytest.approx(2.0)
    assert reply_of(outcome)["decision_metadata"]["source"] == "model"
    assert reply_of(outcome)["state_snapshot"]["goal"] == "the model's words"
    assert outcome.draft.text == "Well done."


async def test_a_late_state_is_not_waited_for_beyond_a_tenth_of_the_reply(autojump_clock: MockClock) -> None:
    """A state that is late is given up before a tenth of the reply has passed; the rules' stands, and says so."""
    model = two_calls(reply=after(2), study=never)
    async with open_house(model=model) as house:
        end = await house.ask(agent_question())
        await trio.testing.wait_all_tasks_blocked()
        assert (model.study.talking, house.gate.statistics().borrowed) == (0, 0)
    outcome = answered(end.result)
    assert end.clock.seconds("chat.turn") == pytest.approx(2 * (1 + PATIENCE) - OWN_COST_S)
    assert reply_of(outcome)["decision_metadata"]["source"] == "rules"
    assert outcome.draft.fallback is None
    assert outcome.warnings == ()


async def test_a_state_just_in_time_is_taken(autojump_clock: MockClock) -> None:
    """A state that comes soon after the reply is taken."""
    async with open_house(model=two_calls(reply=after(2), study=after(2.15))) as house:
        end = await house.ask(agent_question())
    assert reply_of(answered(end.result))["decision_metadata"]["source"] == "model"
    assert end.clock.seconds("chat.turn") == pytest.approx(2.15)


@pytest.mark.parametrize("state", ["", "no JSON", "{}", STATE.replace('"confidence": 0', '"confidence": 7')])
async def test_an_invalid_state_is_the_rules_alone(state: str, autojump_clock: MockClock) -> None:
    """A state that is not valid costs that phase only: the reply is the model's."""
    async with open_house(model=two_calls(state=state or " ")) as house:
        end = await house.ask(agent_question())
    outcome = answered(end.result)
    assert (outcome.draft.text, outcome.draft.fallback) == ("Well done.", None)
    assert reply_of(outcome)["decision_metadata"]["source"] == "rules"


@dataclass
class OtherStudent(TwoCalls):
    """The state is the fallback model's, in a request of its own."""

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        end = await super().answer(request, on_text)
        return replace(end, fallback=True, model="other", request_id="req_study") if request.schema else end


@pytest.mark.parametrize("study_s", [1.0, 2.1])
async def test_what_became_of_the_study_is_not_said_of_the_reply(study_s: float, autojump_clock: MockClock) -> None:
    """Which request it was and that a fallback gave it is on its own span; the turn's facts are the reply's."""
    both = two_calls(reply=after(2), study=after(study_s))
    async with open_house(model=OtherStudent(both.reply, both.study)) as house:
        end = await house.ask(agent_question())
    outcome = answered(end.result)
    assert (outcome.draft.model, outcome.draft.fallback, outcome.warnings) == ("paced-1", None, ())
    assert reply_of(outcome)["decision_metadata"]["source"] == "model"
    assert house.seen.facts[0].details["model_request_id"] == "q1"
    assert "chat.fallback" not in (house.seen.spans.named("chat.turn").attributes or {})
    assert house.seen.sum("chat.fallbacks") == 0
    ids = [(span.attributes or {}).get("openai.response.request_id") for span in house.seen.spans.ended]
    assert {"q1", "req_study"} <= set(ids)


async def test_a_failing_state_costs_nothing(autojump_clock: MockClock) -> None:
    """A state whose call fails is the rules' at once."""
    async with open_house(model=two_calls(reply=after(2), study=failing(DOWN))) as house:
        end = await house.ask(agent_question())
    assert reply_of(answered(end.result))["decision_metadata"]["source"] == "rules"
    assert end.clock.seconds("chat.turn") == pytest.approx(2.0)


@pytest.mark.parametrize(("reply", "code"), [(failing(DOWN), "model_error"), (never, "stage_timeout")])
async def test_a_failing_reply_is_the_rules(reply: Before, code: str, autojump_clock: MockClock) -> None:
    """When the reply's model fails, the rules answer: `fallback_used: heuristic`, a warning, a count, and the code."""
    database = MemoryDatabase()
    async with open_house(database, two_calls(reply=reply)) as house:
        end = await house.ask(agent_question())
    outcome = answered(end.result)
    assert (outcome.draft.fallback, outcome.warnings, outcome.draft.model) == ("heuristic", ("fallback",), "rules")
    assert outcome.draft.stood_in_for is not None
    assert outcome.draft.stood_in_for.code == code
    assert database.stored("assistant").context_data["fallback_used"] == "heuristic"
    assert database.stored("assistant").message == outcome.draft.text
    assert house.seen.facts[0].outcome == "degraded"
    assert house.seen.facts[0].details["fallback"] == "heuristic"


async def test_a_prompt_too_long_is_the_callers(autojump_clock: MockClock) -> None:
    """What the caller must change is no case for the rules."""
    async with open_house(model=two_calls(reply=failing(CallerFault("message_too_long")))) as house:
        end = await house.ask(agent_question())
    assert isinstance(end.result, CallerFault)


async def test_turns_go_before_studies(autojump_clock: MockClock) -> None:
    """With one slot, a waiting turn gets it before any study does."""
    model = two_calls(reply=after(2), study=after(0.05))
    async with open_house(model=model, slots=1) as house, trio.open_nursery() as nursery:
        nursery.start_soon(house.ask, agent_question("first"))
        await trio.sleep(0.1)
        end = await house.ask(agent_question("second"))
    assert end.clock.seconds("llm.queue") == pytest.approx(1.9)
    assert model.study.asked == [] or len(model.study.asked) <= 2
    assert end.clock.seconds("chat.turn") <= 1.9 + 2.0 + 0.2 + 1e-6


async def test_a_turn_that_wants_its_slot_ends_a_study(autojump_clock: MockClock) -> None:
    """A turn never waits behind a study: the newest one gives its slot up at once, and only the rules' state stands."""
    model = two_calls(reply=after(10), study=never)
    async with open_house(model=model, slots=2, queue_timeout_s=5) as house, trio.open_nursery() as nursery:
        ends: list[TurnEnd] = []

        async def ask_agent() -> None:
            ends.append(await house.ask(agent_question()))

        nursery.start_soon(ask_agent)
        await trio.sleep(1)
        assert house.gate.statistics().borrowed == 2
        end = await house.ask(question("Let me in."))
    assert (answered(end.result).draft.text, end.clock.seconds("llm.queue")) == ("Well done.", 0.0)
    assert reply_of(answered(ends[0].result))["decision_metadata"]["source"] == "rules"
    assert house.gate.statistics().borrowed == 0


async def test_a_bug_in_the_study_costs_that_phase_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong beside the reply is logged, and the reply stands."""
    async with open_house(model=two_calls(reply=after(2), study=failing(KeyError("bug")))) as house:
        end = await house.ask(agent_question())
    assert answered(end.result).draft.text == "Well done."
    assert "agent.study.broke" in [record.getMessage() for record in caplog.records]


async def test_the_agents_time_is_not_the_saves(autojump_clock: MockClock) -> None:
    """A question that is slow to store counts as `db_save`, from the agent's end, not as the agent's work."""
    database = MemoryDatabase(before_write=[after(1.5), at_once])
    async with open_house(database, two_calls(reply=after(0.5), study=after(0.1))) as house:
        end = await house.ask(agent_question())
    metrics = end.clock.performance_metrics()
    assert metrics["agent_processing_time"] == pytest.approx(0.5)
    assert metrics["db_save_time"] == pytest.approx(1.0)
    spans = house.seen.spans
    assert spans.named("save.user").parent == spans.named("chat.turn").context


async def test_rules_answer_while_the_model_loads(autojump_clock: MockClock) -> None:
    """A turn that needs no model is not refused because the model loads."""
    async with open_house(model=two_calls(), model_ready=lambda: False) as house:
        by_rules = await house.ask(agent_question(by_rules=True))
        by_model = await house.ask(agent_question())
    assert answered(by_rules.result).draft.model == "rules"
    assert isinstance(by_model.result, Fault)
    assert by_model.result.code == "model_loading"


async def test_a_study_that_is_not_used_is_counted(autojump_clock: MockClock) -> None:
    """Late, failed and invalid states leave a log line and a count."""
    async with open_house(model=two_calls(reply=after(1), study=never)) as house:
        await house.ask(agent_question())
    assert house.seen.sum("chat.fallbacks") == 1


async def test_the_agent_fields_are_stored_with_the_answer(autojump_clock: MockClock) -> None:
    """The answer's row has what a repeat of the reply needs, and the next turn's rules read it."""
    database = MemoryDatabase()
    async with open_house(database, two_calls()) as house:
        for _ in range(3):
            await house.ask(agent_question("I keep going in circles about the same question."))
        end = await house.ask(agent_question("I keep going in circles about the same question."))
    rows = [row.context_data for row in database.rows.values() if row.sender == "assistant"]
    assert {"support_type", "selected_acts", "state_snapshot", "project_plan", "metrics"} <= set(rows[0])
    acts = [set(row["selected_acts"]) for row in rows]
    assert not (acts[0] & acts[1] & acts[2])
    assert not (acts[1] & acts[2] & acts[3])
    assert reply_of(answered(end.result))["metrics"]["turns_count"] == 3


async def test_without_history_the_agent_sees_none(autojump_clock: MockClock) -> None:
    """`include_history: false` keeps the stored messages from rules and model; they stay stored."""
    model = two_calls()
    async with open_house(model=model) as house:
        await house.ask(agent_question("one"))
        end = await house.ask(agent_question("two", with_history=False))
    assert [message.content for message in model.reply.asked[1].messages[1:]] == ["two"]
    assert answered(end.result).history_count == 0


async def test_chat_through_the_agent_ends_with_follow_ups(autojump_clock: MockClock) -> None:
    """On `/chat` the follow-ups are a short list at the answer's end, in the student's language."""
    async with open_house(model=two_calls()) as house:
        english = await house.ask(question("What should I do next?", feature="agent", newest=50))
        japanese = await house.ask(question("次に何をすればいいですか？", feature="agent", newest=50, page_id="ja"))
    assert "**What you can do next:**" in answered(english.result).draft.text
    assert "**次にできること:**" in answered(japanese.result).draft.text


async def test_the_sequential_plan_has_no_study(autojump_clock: MockClock) -> None:
    """The rollback plan leaves state and plan to the rules."""
    model = two_calls()
    async with open_house(model=model, plan="sequential") as house:
        end = await house.ask(agent_question())
    assert model.study.asked == []
    assert reply_of(answered(end.result))["decision_metadata"]["source"] == "rules"


async def test_the_agents_spans_lie_under_agent(autojump_clock: MockClock) -> None:
    """Phases and both model calls are children of `agent`; every span says the plan."""
    async with open_house(model=two_calls(reply=after(1), study=after(0.5))) as house:
        await house.ask(agent_question())
    spans = house.seen.spans
    assert spans.open == {}
    agent = spans.named("agent").context
    children = {span.name for span in spans.ended if span.parent == agent}
    assert {"agent.state", "agent.plan", "agent.support_type", "agent.acts", "agent.reply", "chat paced"} <= children
    assert sum(span.name == "chat paced" for span in spans.ended) == 2
    assert all((span.attributes or {})["chat.plan"] == "concurrent" for span in spans.ended)


@pytest.mark.parametrize("moment", [0.05 * step for step in range(1, 45, 4)])
async def test_a_client_that_leaves_the_agent_leaves_nothing(moment: float, autojump_clock: MockClock) -> None:
    """Cancelled at any moment, an agent turn leaves no slot, span or model call behind."""
    model = two_calls(reply=after(1), study=after(1.05))
    async with open_house(MemoryDatabase(before_history=after(0.3)), model) as house:
        with trio.move_on_after(moment):
            await house.ask(agent_question())
        await trio.testing.wait_all_tasks_blocked()
        assert (model.reply.talking, model.study.talking, house.gate.statistics().borrowed) == (0, 0, 0)
    assert house.seen.spans.open == {}
