"""Streams whose clients leave, come back, come together, or stop them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from tests.server.parts import end_of, metadata_of, text_of
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.rows import stored, turn_rows
from tests.server.streaming import STALLS, followed, get, opened, post, sdk_body, stop, stream

GOES_ON = "Go on [[fault: stall after=3 for=1]]"
"""Long enough to leave and to come back."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data")) as process:
        process.answer(f"First {AT_ONCE}")
        yield process


def finish_of(server: ServerProcess, turn_id: str) -> str:
    """Return how a turn's answer is stored, once the turn is over."""
    server.wait_for_log("turn.finished", turn_id=turn_id)
    return str(turn_rows(server.data_dir, turn_id)[1]["context_data"]["finish"])


@pytest.mark.parametrize(
    ("setting", "finishes"),
    [("cancel", {None: "cancelled", "continue": "stop"}), ("continue", {None: "stop", "cancel": "cancelled"})],
)
def test_what_becomes_of_a_turn_whose_client_left(
    tmp_path: Path, setting: str, finishes: dict[str | None, str]
) -> None:
    """`ON_DISCONNECT` decides, and the request's `on_disconnect` before it; a cancelled one keeps its text."""
    with running(tmp_path, ON_DISCONNECT=setting) as server:
        for wish, finish in finishes.items():
            with opened(server, "Go on [[fault: stall after=3 for=0.5]]", user=f"{wish}", on_disconnect=wish) as answer:
                seen = answer.deltas(3)
            turn_id = answer.read[0]["messageId"]
            assert finish_of(server, turn_id) == finish
            text = turn_rows(server.data_dir, turn_id)[1]["message"]
            assert text.startswith(seen)
            assert (text == seen) == (finish == "cancelled")


def test_a_reply_as_json_may_go_on_too(server: ServerProcess) -> None:
    """What becomes of a turn whose client left is the request's wish there as well."""
    for number, (wish, first_s, outcome) in enumerate((("cancel", 15, "cancelled"), ("continue", 0.6, "ok"))):
        with pytest.raises(httpx.ReadTimeout):
            server.http.post(
                "/chat", json={"message": f"Hm [[fault: slow first={first_s} each=0]]", "on_disconnect": wish},
                headers={"authorization": f"Bearer json{number}"}, timeout=0.3,
            )  # fmt: skip
        server.wait_for_gauge("edge_turns_inflight", 0)
        assert server.lines("turn.finished")[-1]["outcome"] == outcome


@pytest.mark.parametrize(("address", "by"), [("/chat", "the page key"), ("/chat/stream", "the conversation")])
def test_two_come_back_and_see_all_of_it(server: ServerProcess, address: str, by: str) -> None:
    """Replayed from the start and then live: both have the same parts, and the answer that is stored."""
    user = f"back{len(address)}{len(by)}"
    with opened(server, GOES_ON, user=user, page_id="page 1/a", on_disconnect="continue") as answer:
        seen = answer.deltas(2)
    start = answer.read[0]
    name = {"the page key": "page%201%2Fa", "the conversation": start["messageMetadata"]["conversation_id"]}[by]
    with ThreadPoolExecutor(2) as pool:
        followers = [followed(pool, server, f"{address}/{name}/stream", user) for _ in range(2)]
        assert get(server, f"{address}/{name}/stream", "stranger").status_code == 204
        both = [follower.result() for follower in followers]
    for parts in both:
        assert parts[0] == start
        assert end_of(parts)["type"] == "finish"
        assert text_of(parts).startswith(seen)
        assert metadata_of(parts)["saved"] == "database"
    assert text_of(both[0]) == text_of(both[1]) == turn_rows(server.data_dir, start["messageId"])[1]["message"]
    assert get(server, f"{address}/{name}/stream", user).status_code == 204, "the history has it"


def test_a_turn_that_nobody_saw_end_is_replayed_once(server: ServerProcess) -> None:
    """Who comes back shortly after the end has the whole answer; whoever comes then finds nothing that is active."""
    with opened(server, "Go on [[fault: stall after=3 for=0.3]]", user="late", on_disconnect="continue") as answer:
        answer.deltas(1)
    turn_id = answer.read[0]["messageId"]
    assert finish_of(server, turn_id) == "stop"
    with opened(server, method="GET", path="/chat/general/stream", user="late") as back:
        parts = back.rest()
    assert (parts[0]["messageId"], end_of(parts)["type"]) == (turn_id, "finish")
    assert text_of(parts) == turn_rows(server.data_dir, turn_id)[1]["message"]
    assert get(server, "/chat/general/stream", "late").status_code == 204


def test_nothing_is_active(server: ServerProcess) -> None:
    """204 without a body: before any turn, for an unknown chat, and after an answer that was read to its end."""
    stream(server, f"Hello {AT_ONCE}", user="idle")
    for name in ("general", "nothing", "00000000-0000-4000-8000-000000000000"):
        response = get(server, f"/chat/{name}/stream", "idle")
        assert (response.status_code, response.content) == (204, b"")
    response = get(server, "/chat/general/stream", "not a user")
    assert (response.status_code, response.text) == (401, "Please sign in again.")


def test_a_second_follower_beside_the_first(server: ServerProcess) -> None:
    """While its own client still reads, another page of the same user may follow; it leaves without harm."""
    with opened(server, GOES_ON, user="beside") as answer:
        answer.deltas(3)
        with opened(server, method="GET", path="/chat/general/stream", user="beside") as back:
            assert back.deltas(1) == text_of(answer.read)
        assert server.http.head("/chat/general/stream", headers={"authorization": "Bearer beside"}).status_code == 204
        assert end_of(answer.rest())["type"] == "finish"


@pytest.mark.parametrize("address", ["/chat", "/chat/stream"])
def test_a_turn_is_stopped(server: ServerProcess, address: str) -> None:
    """Its owner may, from anywhere: followers are told `abort`, the text so far is stored as cancelled."""
    user = f"stops{len(address)}"
    with opened(server, STALLS, user=user, on_disconnect="continue") as answer, ThreadPoolExecutor(1) as pool:
        seen = answer.deltas(3)
        back = followed(pool, server, f"{address}/general/stream", user)
        assert not stop(server, f"{address}/general/stop", "stranger")
        assert not stop(server, f"{address}/other/stop", user)
        asked = time.monotonic()
        assert stop(server, f"{address}/general/stop", user)
        assert end_of(answer.rest()) == {"type": "abort"}
        assert time.monotonic() - asked < 5
        assert end_of(back.result())["type"] == "abort"
    assert finish_of(server, answer.read[0]["messageId"]) == "cancelled"
    assert turn_rows(server.data_dir, answer.read[0]["messageId"])[1]["message"] == seen
    assert not stop(server, f"{address}/general/stop", user)
    assert get(server, f"{address}/general/stream", user).status_code == 204


def test_a_stopped_conversation_goes_on(server: ServerProcess) -> None:
    """The next turn knows what was said until the stop; a turn that runs is what a new one makes of the old address."""
    with opened(server, STALLS, user="goes") as answer:
        answer.deltas(3)
        stop(server, "/chat/general/stop", "goes")
        answer.rest()
    parts = stream(server, f"And now? {AT_ONCE}", user="goes")
    assert metadata_of(parts)["context_metadata"]["history_count"] == 2


def test_the_drain_waits_for_a_turn_without_a_client(tmp_path: Path) -> None:
    """A turn that goes on though its client left is finished before the server ends."""
    with running(tmp_path, "tests.server.impatient") as server:
        with opened(server, GOES_ON, on_disconnect="continue") as answer:
            answer.deltas(3)
        server.send_signal(SIGTERM)
        server.wait_for_log("server.draining")
        assert server.wait(timeout_s=10) == 0
    assert turn_rows(tmp_path, answer.read[0]["messageId"])[1]["context_data"]["finish"] == "stop"


def test_the_last_call_ends_a_turn_without_a_client(tmp_path: Path) -> None:
    """One that would not end is cut off in time, and saved."""
    with running(tmp_path, GRACEFUL_TIMEOUT="2") as server:
        with opened(server, STALLS, on_disconnect="continue") as answer:
            seen = answer.deltas(3)
        begun = time.monotonic()
        server.send_signal(SIGTERM)
        assert server.wait(timeout_s=10) == 0
        assert 0.5 < time.monotonic() - begun < 5
    row = turn_rows(tmp_path, answer.read[0]["messageId"])[1]
    assert (row["message"], row["context_data"]["finish"]) == (seen, "cancelled")


def test_a_new_stream_is_turned_away_in_the_drain(tmp_path: Path) -> None:
    """The SDK's page shows the sentence; nothing is stored."""
    with running(tmp_path, DRAIN_GRACE="2") as server:
        server.send_signal(SIGTERM)
        server.wait_for_log("server.draining")
        response = post(server, sdk_body("Too late?"), user="late")
        assert (response.status_code, response.headers["x-error-code"]) == (503, "draining")
        assert response.text == "The server is restarting. Please try again shortly."
        assert int(response.headers["retry-after"]) >= 1
        assert server.wait(timeout_s=10) == 0
    assert stored(tmp_path, user_id="late") == []
