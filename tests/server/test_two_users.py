"""Every route with every id of another user's, wherever an id may stand: she stays as absent as nobody.

The control is what such a user is answered for an id that nobody has: the same byte for byte, but for trace ids; of
turns and lists of one's own, but for their own ids and times.
"""

import json
from collections.abc import Iterator

import pytest

from tests.contract.judge import COPY
from tests.server.id_places import INERT, PLACES, READS, RESUMES, STOPS, TURNS, Place, id_places, sdk_asked
from tests.server.process import AT_ONCE, until
from tests.server.rows import stored
from tests.server.streaming import is_text, opened
from tests.server.two_users import MEMO, OPS, PROJECT, SECRET, Ids, Town, her, named, told, town_in

DOCUMENT = json.loads(COPY.read_text("utf-8"))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town_in(tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest.fixture(scope="module")
def ids(town: Town) -> Ids:
    """What Aiko has: talks by page and by the AI SDK, with a key, on a project; one alone; one whose end she missed."""
    key = {"idempotency-key": "key-of-aiko"}
    talked = town.says("Talk", page_id="page-of-aiko", headers=key)
    assert town.says("Talk", page_id="page-of-aiko", headers=key)["turn_id"] == talked["turn_id"]
    for page in (f"project-{PROJECT}", str(MEMO)):
        assert town.says("Project", page_id=page)["context_metadata"]["has_project_context"]
    alone, doomed = (town.aiko("POST", "/conversations", json={"title": SECRET}) for _ in range(2))
    town.says("Alone", page_id=alone["id"])
    town.ask("aiko", "POST", "/chat", json=sdk_asked("q1", id="chat-of-aiko")).raise_for_status()
    town.says("Chat", page_id="chat-of-aiko")
    turn, talk = talked["turn_id"], talked["conversation_id"]
    rows = stored(town.folder, turn_id=turn)
    pages = [
        town.ask("aiko", "GET", path, params={"limit": "1"}).headers["x-next-before"]
        for path in ("/conversations", f"/conversations/{talk}/messages")
    ]
    return {
        "conversation": [talk],
        "alone": [alone["id"]],
        "doomed": [doomed["id"]],
        "page": ["page-of-aiko", "chat-of-aiko"],
        "missed": ["missed-of-aiko"],
        "project_page": [f"project-{PROJECT}"],
        "project": [str(PROJECT)],
        "memo": [str(MEMO)],
        "turn": [turn],
        "question": [f"{turn}:user"],
        "row": [str(rows[1]["id"])],
        "key": ["key-of-aiko"],
        "message": ["q1"],
        "heads": pages[:1],
        "place": pages[1:],
    }


NAMING_TURNS = ("ChatPayload conversation_id", "ChatPayload page_id", "header idempotency-key", "UiBody id")
"""Of the places of a turn, those that lead to another turn or its conversation."""


def missed(town: Town, page: str) -> None:
    """Have Aiko leave a stream that goes on without her."""
    question = f"Missed {page} {SECRET}"
    town.held.holds.add(question)
    with opened(town.server, f"{question} {AT_ONCE}", path="/chat/stream", headers=town.as_user("aiko"), page_id=page,
                on_disconnect="continue") as stream:  # fmt: skip
        stream.until(is_text)
        turn_id = stream.read[0]["messageId"]
    town.held.let_go(question)
    until(lambda: len(stored(town.folder, turn_id=turn_id)) == 2, "the answer is stored")


def test_every_place_of_the_contract_has_a_row() -> None:
    """A new route, parameter or field fails here until it is in `PLACES`, or in `INERT` as one that takes no id."""
    there = {each for each in id_places(DOCUMENT, "userToken") if each[2] not in INERT}
    assert there == {(place.method, place.path, place.at) for place in PLACES}


def probe(town: Town, place: Place, ids: Ids, *also: int) -> None:
    """Send each id of hers that a place is for, and find that it is as one of nobody's, and gives none of hers away.

    With a HEAD only those are tried that say something to her. `also`: other statuses that Ben may be given.
    """
    all_ids = [id_ for kind in ids.values() for id_ in kind]
    long = [id_ for id_ in all_ids if len(id_) > len("q1")]  # a shorter one may stand anywhere
    tries = {place.method: place.kinds or tuple(ids)} | ({"HEAD": place.hers} if place.method == "GET" else {})
    for method, kinds in tries.items():
        for id_ in [id_ for kind in kinds for id_ in ids.get(kind, ())]:
            his, what = town.probe(place, method, id_), f"{method} {place.path}, {place.at}: {id_}"
            assert his.status_code in (*place.gives, *also), (what, his.text)
            assert told(his, id_) == town.told_of_nobodys(place, method, id_), what
            said = f"{his.headers} {his.text}".replace(id_, "")
            assert not [each for each in (SECRET, *long) if each in said and each not in id_], what
            assert not named(his) & {*all_ids}, what


def quiet(town: Town) -> list[str]:
    """Return what is Aiko's, and check that nothing of others is among it, nor hers among theirs."""
    heads = {row["id"]: row["user_id"] for row in stored(town.folder, "chat_conversations")}
    assert all(heads[row["conversation_id"]] == row["user_id"] for row in stored(town.folder))
    assert not any(SECRET in str(row) for row in stored(town.folder) if row["user_id"] != "aiko")
    return town.her_rows()


@pytest.mark.parametrize("places", [TURNS, RESUMES, STOPS, READS], ids=["turns", "resumes", "stops", "reads"])
def test_what_is_hers_is_nobodys_to_him(town: Town, ids: Ids, places: list[Place]) -> None:
    """He is told what he would be of nobody's, the model is told nothing of hers, and her rows stay as they are."""
    if places is RESUMES:
        missed(town, "missed-of-aiko")
    before, asked = quiet(town), len(town.model.heard)
    assert SECRET in str(before)
    for place in places:
        probe(town, place, ids)
    assert quiet(town) == before
    if places is RESUMES:
        assert SECRET in town.ask("aiko", "GET", "/chat/missed-of-aiko/stream").text
    assert not any(SECRET.encode() in heard.body for heard in town.model.heard[asked:])
    assert (len(town.model.heard) > asked) is (places is TURNS)


def test_while_her_turn_runs(town: Town) -> None:
    """He neither follows, nor stops, nor sees it, and her key is free for him; she has her whole answer."""
    question, page = f"Running {SECRET}", "running-of-aiko"
    town.held.holds.add(question)
    keyed = {**town.as_user("aiko"), "idempotency-key": "running-key"}
    with opened(town.server, f"{question} {AT_ONCE}", headers=keyed, page_id=page) as stream:
        stream.until(is_text)
        start = stream.read[0]["messageMetadata"]
        until(lambda: bool(stored(town.folder, turn_id=start["turn_id"])), "the question is stored")
        running: Ids = {
            "conversation": [start["conversation_id"]], "page": [page], "turn": [start["turn_id"]],
            "key": ["running-key"],
        }  # fmt: skip
        before = quiet(town)
        for place in PLACES:
            if place not in TURNS or (place.path == "/chat/stream" and place.at in NAMING_TURNS):
                probe(town, place, running)
        assert quiet(town) == before
        assert town.ask("aiko", "POST", "/chat", json={"message": her("x")}, headers=keyed).status_code == 409
        path = f"/chat/{start['conversation_id']}/stream"
        with opened(town.server, method="GET", path=path, headers=town.as_user("aiko")) as back:
            back.until(is_text)
            town.held.let_go(question)
            assert [each.rest()[-1]["type"] for each in (stream, back)] == ["finish", "finish"]
    assert town.aiko("POST", "/chat/running-of-aiko/stop") == {"stopped": False}


def test_while_her_rows_are_only_in_the_outbox(town: Town) -> None:
    """With the database down, what waits is hers alone too; then all of it is stored, as hers."""
    town.mood.down = True
    try:
        asked = town.says("Waiting", page_id="waiting-of-aiko", headers={"idempotency-key": "waiting-key"})
        assert asked["saved"] == "outbox"
        turn, talk = asked["turn_id"], asked["conversation_id"]
        assert len(town.aiko("GET", f"/conversations/{talk}/messages")) == 2
        waiting: Ids = {
            "conversation": [talk], "page": ["waiting-of-aiko"], "turn": [turn],
            "key": ["waiting-key"], "place": [f"{turn}:assistant"],
        }  # fmt: skip
        before = quiet(town)
        for place in PLACES:
            if place not in TURNS or (place.path == "/chat" and place.at in NAMING_TURNS):
                probe(town, place, waiting, *(() if place.method == "GET" else (503,)))
        assert quiet(town) == before
        again = town.says("Waiting", page_id="waiting-of-aiko", headers={"idempotency-key": "waiting-key"})
        assert (again["turn_id"], again["response"]) == (turn, asked["response"])
    finally:
        town.mood.down = False
    delivered(town)
    assert {row["user_id"] for row in stored(town.folder, turn_id=turn)} == {"aiko"}
    assert [row for row in quiet(town) if talk not in row] == before
    for place in (*RESUMES, *READS):
        probe(town, place, waiting)


def delivered(town: Town) -> None:
    """Have the outbox tried at once, and wait until it is empty."""
    first = town.server.http.get("/ops/outbox", headers=OPS).json()["entries"][0]["id"]
    town.server.http.post(f"/ops/outbox/{first}/retry", headers=OPS).raise_for_status()
    until(lambda: town.server.http.get("/ops/outbox", headers=OPS).json()["waiting"] == 0, "all is delivered")


def test_routes_that_are_no_users(town: Town, ids: Ids) -> None:
    """An operator's are 401 to any user, whatever is named; the open ones, of which only the pages take a name, say the
    same to everybody.
    """
    assert {each[2] for each in id_places(DOCUMENT, "")} == {"path name", "path digest", "header if-none-match"}
    (turn,), (ben, _) = ids["turn"], town.ben()
    for path, operations in DOCUMENT["paths"].items():
        url = path.replace("{entry_id}", "1").replace("{name}", turn).replace("{digest}", turn)
        for method, operation in operations.items():
            if "userToken" not in str(operation["security"]):
                hers, his = (town.ask(user, method.upper(), url) for user in ("aiko", ben))
                assert hers.status_code == his.status_code
                assert (his.status_code == 401) is ("opsToken" in str(operation["security"])), (method, path)
                assert not [each for each in (SECRET, turn) if each in his.text], (method, path)


def test_she_herself_gets_an_answer_at_the_same_places(town: Town, ids: Ids) -> None:
    """The control: where he was told of nothing, she is answered with 2xx, and reads what she said."""
    for place in sorted(PLACES, key=lambda place: place.method == "DELETE"):
        for id_ in [id_ for kind in place.hers for id_ in ids[kind]]:
            if place in RESUMES:
                missed(town, id_)
            answer = town.ask("aiko", place.method, place.url(id_, ids["conversation"][0]), **place.send(id_))
            what = (place.method, place.path, place.at, id_, answer.text)
            assert answer.is_success, what
            assert answer.status_code != 204 or place.method == "DELETE", what
            if place.path.endswith(("history", "messages")) and id_ != ids["place"][0]:
                assert SECRET in answer.text, what
