"""The contract itself: whole, true to the tables that it is made of, and what is committed."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from pydantic import BaseModel
from quart import Blueprint

from app import bootstrap
from app.contract import examples
from app.contract.document import Shared, document, path_of
from app.contract.operations import OPERATIONS
from app.contract.parameters import HEADERS, PARAMETERS
from app.contract.problems import ANYWHERE
from app.contract.routes import FILES, PAGES, POLICY, contract_routes, rendered
from app.contract.schemas import NOTES, REQUESTS
from app.errors import KINDS, Kind
from app.receive.before import conversation_before, message_before
from app.receive.conversation_query import ConversationsQuery
from app.receive.history_query import HistoryQuery
from app.save.outbox_file import Outbox
from app.settings import Settings
from telemetry.providers import build_providers
from tests.contract.judge import COPY, Judge

PUBLISHED = {  # swagger-ui-dist 5.35.0, as npm has it
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
REWRITE = "python -m app openapi > docs/openapi.json"


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(document())


def responses() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every response with its operation's id and its status."""
    whole = document()
    for operations in whole["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                name = response.get("$ref", "").rpartition("/")[2]
                yield operation["operationId"], status, whole["components"]["responses"][name] if name else response


def test_the_committed_copy_is_what_is_served() -> None:
    """docs/openapi.json is the contract, so that it changes on purpose only."""
    assert COPY.read_text("utf-8") == rendered(indent=2) + "\n", f"the contract changed; if on purpose: {REWRITE}"


async def test_every_route_is_described(tmp_path: Path) -> None:
    """What the router of a whole server has is what the contract has, method by method."""
    settings = Settings(_env_file=None, bind="127.0.0.1:0", data_dir=tmp_path, embedded_llm="scripted")
    providers = build_providers(
        service_version="test", instance="test", traces_endpoint_set=False, metrics_endpoint_set=False
    )
    outbox = cast(Outbox, SimpleNamespace(has_room=lambda: True))  # with one, as by default, it has routes
    async with (
        trio.open_nursery() as services,
        bootstrap.open_database(settings, services, providers) as database,
        bootstrap.open_model(settings, services, providers) as model,
        trio.open_nursery() as turns,
    ):
        parts = bootstrap.join(
            settings, providers, bootstrap.Resources(database=database, model=model, outbox=outbox), turns, "test"
        )
        routed = {(rule.rule, method) for rule in parts.quart.url_map.iter_rules() for method in rule.methods or ()}
        services.cancel_scope.cancel()
    await providers.shutdown(1.0)
    told = {(operation.rule, operation.method.upper()) for operation in OPERATIONS}
    assert {(rule, method) for rule, method in routed if method not in ("HEAD", "OPTIONS")} == told


def test_it_is_the_same_every_time() -> None:
    """Nothing of it depends on the order in which a set is walked."""
    assert rendered() == rendered()


def test_every_reference_leads_somewhere(judge: Judge) -> None:
    """No `$ref` of the document is broken, and no component is left over."""
    text = rendered()
    named = set(re.findall(r'"\$ref": "#/components/(\w+/[^"]+)"', text))
    there = {f"{kind}/{name}" for kind, all_ in judge.document["components"].items() for name in all_}
    unused = there - named - {f"securitySchemes/{name}" for name in ("userToken", "opsToken")}
    assert named <= there
    assert unused == {"responses/MethodNotAllowed", "examples/stopped"}


def test_responses_are_named_by_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which operation comes first has no say in a response's name, nor in its place: generated types keep theirs."""
    before = document()["components"]["responses"]
    monkeypatch.setattr("app.contract.document.OPERATIONS", OPERATIONS[::-1])
    after = document()["components"]["responses"]
    assert list(after.items()) == list(before.items())
    assert before["NotFound"]["content"].keys() == {"application/problem+json"}
    assert before["NotFoundOrSentence"]["content"].keys() == {"application/problem+json", "text/plain"}


def test_a_response_has_one_name_alone() -> None:
    """Two that would have the same name and say different things are refused when the document is made."""
    shared = Shared()
    shared.put("NotFound", {"description": "a"})
    assert shared.put("NotFound", {"description": "a"}) == {"$ref": "#/components/responses/NotFound"}
    with pytest.raises(ValueError, match="NotFound"):
        shared.put("NotFound", {"description": "b"})


def test_what_was_given_is_given_back_as_it_is() -> None:
    """A place in a list is a text that nobody needs to take apart; each example of one is read."""
    for name, read in (("BeforeMessage", message_before), ("BeforeConversation", conversation_before)):
        assert PARAMETERS[name]["schema"] == {"type": "string"}
        assert [read(each["value"]) for each in PARAMETERS[name]["examples"].values()]


def test_what_may_be_left_out_has_no_default(judge: Judge) -> None:
    """Makers of types take a field with a default for one that is always there; what it is, its description says."""
    for model in REQUESTS:
        fields = judge.document["components"]["schemas"][model.__name__]["properties"]
        assert [name for name, field in fields.items() if "default" in field] == []
    told = {
        name: judge.document["components"]["schemas"][model]["properties"][name]["description"].rpartition(" `")[2]
        for model, name in (("AgentPayload", "mock_mode"), ("AgentPayload", "history_limit"), ("UiBody", "trigger"))
    }
    assert told == {
        "mock_mode": "true`, if not given.",
        "history_limit": "50`, if not given.",
        "trigger": "submit-message`, if not given.",
    }


def test_operations_have_names_of_their_own() -> None:
    """Ids and addresses occur once; what a path names is a parameter."""
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({(operation.method, operation.rule) for operation in OPERATIONS}) == len(OPERATIONS)
    for operation in OPERATIONS:
        named = {PARAMETERS[name]["name"] for name in operation.parameters if PARAMETERS[name]["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path_of(operation.rule)))


@pytest.mark.parametrize("model", REQUESTS, ids=lambda model: model.__name__)
def test_examples_of_requests_are_right(judge: Judge, model: type[BaseModel]) -> None:
    """Every example of a body is right by its schema, and by the model that reads it."""
    for value in examples.REQUESTS[model.__name__].values():
        assert judge.faults({"$ref": f"#/components/schemas/{model.__name__}"}, value) == []
        model.model_validate(value)


def test_examples_of_answers_are_right(judge: Judge) -> None:
    """Every example of an answer, of an error, and of a stream's parts is right by its schema, with no field more."""
    checked = 0
    for id_, status, response in responses():
        for media, content in response.get("content", {}).items():
            for name, example in content.get("examples", {}).items():
                value = example.get("value", judge.document["components"]["examples"].get(name, {}).get("value"))
                assert judge.faults(content["schema"], value) == [], (id_, status, media, name)
                checked += 1
            if media == "text/event-stream":
                assert judge.stream_faults(content["x-sse-parts"], content["example"]) == []
    assert checked > 100


def test_every_example_is_shown() -> None:
    """No example is left over."""
    shown = {name for operation in OPERATIONS for answer in operation.answers.values() for name in answer.examples}
    assert shown == set(examples.ANSWERS)
    assert {name for operation in OPERATIONS for name in operation.bodies} == set(examples.REQUESTS)


def test_every_kind_of_fault_is_told_of() -> None:
    """Each row of the table is in the enumeration of codes, with its status where it is answered."""
    whole = document()
    assert set(whole["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(KINDS)
    for id_, status, response in responses():
        problem = response.get("content", {}).get("application/problem+json")
        if problem is not None:
            codes = problem["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert {KINDS[code].status for code in codes} == {int(status)}, id_


def test_a_new_kind_of_fault_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that no operation names is refused when the document is made."""
    kind: Kind = replace(KINDS["not_found"], status=410)
    monkeypatch.setitem(KINDS, "gone", kind)
    with pytest.raises(ValueError, match="answered with: gone"):
        document()


def test_whatever_is_asked_may_be_refused_by_the_edge() -> None:
    """Every operation has the statuses of what the edge says by itself, and 401 and 429 where somebody signs in."""
    by_id: dict[str, set[str]] = {}
    for id_, status, _response in responses():
        by_id.setdefault(id_, set()).add(status)
    for operation in OPERATIONS:
        wanted = {str(KINDS[code].status) for code in ANYWHERE}
        wanted |= {"401", "429"} if operation.security != "open" else set()
        assert by_id[operation.id] >= wanted


@pytest.mark.parametrize(
    ("model", "operation"),
    [(ConversationsQuery, "conversations"), (HistoryQuery, "history")],
    ids=["heads", "messages"],
)
def test_queries_have_the_fields_that_are_read(model: type[BaseModel], operation: str) -> None:
    """The parameters of a list's query are the fields of the model that reads it, with the same defaults."""
    (found,) = [each for each in OPERATIONS if each.id == operation]
    queries = {each["name"]: each for name in found.parameters if (each := PARAMETERS[name])["in"] == "query"}
    assert set(queries) == set(model.model_fields)
    for name, parameter in queries.items():
        default = model.model_fields[name].default
        assert parameter["schema"].get("default", default or None) == (default or None)


def test_notes_are_about_fields() -> None:
    """What is said of a field is said of one that there is."""
    models = {model.__name__: set(model.model_fields) for model in REQUESTS}
    assert {name: set(notes) - models[name] for name, notes in NOTES.items() if set(notes) - models[name]} == {}


@pytest.mark.parametrize(
    ("schema", "value", "is_right"),
    [
        ("ChatPayload", {"message": " \n"}, False),
        ("ChatPayload", {"message": "a\0"}, False),
        ("ChatPayload", {"message": "a\nb", "more": 1}, True),
        ("ChatPayload", {"message": "a", "conversation_id": "x"}, False),
        ("UiBody", {"id": "a", "messages": []}, False),
        ("UiBody", {"id": "", "messages": examples.REQUESTS["UiBody"]["useChat"]["messages"]}, False),
        ("UiBody", {**examples.REQUESTS["UiBody"]["useChat"], "message": "a"}, False),
        ("NewTitle", {"title": "a\nb"}, False),
        ("NewTitle", {"title": "x" * 201}, False),
        ("LimiterBody", {"who": "a"}, False),
        ("LimiterBody", {"min": None, "max": 3}, True),
    ],
)
def test_bodies_say_what_code_checks(judge: Judge, schema: str, value: object, is_right: bool) -> None:
    """What types do not say, a blank message or a title of two lines, the contract says too."""
    open_ = Judge(document(), closed=False)
    assert (not open_.faults({"$ref": f"#/components/schemas/{schema}"}, value)) is is_right


def test_headers_are_used() -> None:
    """No header component is left over."""
    used = set(re.findall(r"#/components/headers/(\w+)", rendered()))
    assert used == set(HEADERS)


def test_the_pages_name_no_other_host() -> None:
    """Ours load nothing from elsewhere, the policy would not let them, and all that they load is there."""
    for name in ("index.html", "start.js"):
        text = (PAGES / name).read_text("utf-8")
        assert "//" not in text.replace("// Shows", ""), name
    assert "http" not in POLICY
    assert "*" not in POLICY
    loaded = re.findall(r'(?:src|href)="docs/([^"]+)"', (PAGES / "index.html").read_text("utf-8"))
    assert set(loaded) <= set(FILES)
    assert {path.name for path in PAGES.iterdir()} == {*FILES, "index.html"}


def test_the_pages_are_what_was_published() -> None:
    """Swagger UI's files are those of its package, with its licence beside them."""
    for name, digest in PUBLISHED.items():
        assert hashlib.sha256((PAGES / name).read_bytes()).hexdigest() == digest, name
    assert "Apache License" in (PAGES / "LICENSE.txt").read_text("utf-8")


def test_routes_are_made_of_rules() -> None:
    """The blueprint is one of the front end's: it can be told which origins may read it."""
    assert isinstance(contract_routes(), Blueprint)


def test_the_document_is_json() -> None:
    """What is served can be read back."""
    assert json.loads(rendered()) == document()
