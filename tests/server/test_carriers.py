"""What carries the calls to the hosts, told apart by its connections: ours, httpx's own, and a proxy's way."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.server.neighbours import Neighbour, database_host, model_host, proxy_host
from tests.server.process import AT_ONCE, ServerProcess, running


@dataclass(frozen=True, slots=True)
class Town:
    """The server and its hosts."""

    server: ServerProcess
    model: Neighbour

    def connection(self) -> int:
        """Have a message answered, and return the port from which the model was asked for it."""
        self.server.answer(f"Why? {AT_ONCE}")
        return self.model.heard[-1].client


@contextmanager
def town(folder: Path, **settings: str) -> Iterator[Town]:
    with ExitStack() as stack:
        model = stack.enter_context(model_host())
        database = stack.enter_context(database_host(folder / "supabase.sqlite3"))
        hosts = {"OPENAI_BASE_URL": f"{model.url}/v1", "SUPABASE_URL": database.url, "SUPABASE_KEY": "sb_secret_x"}
        server = stack.enter_context(running(folder / "server", **(hosts | {"AUTH_MODE": "dev"} | settings)))
        yield Town(server, model)


def test_the_sequential_plan_has_a_carrier_of_its_own(tmp_path: Path) -> None:
    """Back and forth between the plans, live: each keeps its own connection, and finds it again."""
    with town(tmp_path) as place:
        first = [place.connection(), place.connection()]
        place.server.http.put("/ops/rollout", json={"chat": {"optimized": False}})
        back = [place.connection(), place.connection()]
        place.server.http.put("/ops/rollout", json={"chat": {"optimized": True}})
        assert [place.connection(), *first] == [first[0]] * 3
        assert back[0] == back[1] != first[0]


def test_httpx_own_carries_everything_when_it_is_told_to(tmp_path: Path) -> None:
    """Then both plans share it, and its connection."""
    with town(tmp_path, HTTP_TRANSPORT="httpcore") as place:
        first = place.connection()
        place.server.http.put("/ops/rollout", json={"chat": {"optimized": False}})
        assert place.connection() == first


def test_a_proxy_is_asked_where_one_is_named(tmp_path: Path) -> None:
    """Hosts that only the proxy can find are reached through it; one in NO_PROXY is asked directly."""
    with (
        model_host() as model,
        database_host(tmp_path / "supabase.sqlite3") as database,
        proxy_host({"model.test": model.url}) as proxy,
        running(
            tmp_path / "server",
            HTTP_PROXY=proxy.url,
            NO_PROXY="127.0.0.1",
            OPENAI_BASE_URL="http://model.test/v1",
            SUPABASE_URL=database.url,
            SUPABASE_KEY="sb_secret_x",
            AUTH_MODE="dev",
        ) as server,
    ):
        server.answer(f"Why? {AT_ONCE}")
    assert [heard.path for heard in proxy.heard] == ["http://model.test/v1/chat/completions"]
    assert model.heard
    assert database.heard
