"""The documents' other examples: the front end runs, TypeScript compiles, JSON parses."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.front_end.driver import SDKS, program
from tests.needs import lack, need_program
from tests.readme.blocks import Block
from tests.readme.checkout import WRITTEN
from tests.readme.documents import BLOCKS, ROOT, TEXTS
from tests.server.process import AT_ONCE, ServerProcess, running

CLIENT = ROOT / "clients" / "typescript"
MODULES = CLIENT / "node_modules"
LANGUAGES = {
    "sh": "tests/readme/test_commands.py",
    "jsx": __name__,
    "ts": __name__,
    "json": __name__,
    "sql": "tests/supabase/test_documents.py",
    "traceql": "tests/grafana/test_traceql.py",
    "nginx": "tests/deploy/test_readme_quotes.py",
    "caddyfile": "tests/deploy/test_readme_quotes.py",
    "diff": "tests/test_contributing.py",
    "python": "tests/test_contributing.py",
    "": "what is shown, not typed",
}
"""What holds the blocks of a language to their word."""
DEMO = {"authorization": "Bearer demo"}
(PAGE,) = set(re.findall(r"`CORS_ALLOW_ORIGINS=(\S+)`", TEXTS["README.md"]))
SOAK = pytest.mark.soak
QUESTION = "What is a hypothesis? [[fault: slow first=0.02 each=0.005]]"
SURROUNDINGS = """\
interface Auth { getSession(): Promise<{ data: { session: { access_token: string } | null } }> }
declare const CHAT_URL: string, SUPABASE_URL: string, SUPABASE_PUBLISHABLE_KEY: string;
declare const accessToken: () => Promise<string>;
declare const ChatClient: typeof import("./client.js").ChatClient;
declare function createClient(url: string, key: string): { auth: Auth };
declare function show(text: string): void;
"""
"""What the examples take from the page that they are pasted into."""


def written(language: str) -> list[Any]:
    """Return the blocks of a language as cases, each text once."""
    blocks = {block.text: block for block in reversed(BLOCKS) if block.language == language}
    return [pytest.param(block, id=f"{block.document}:{block.line}") for block in reversed(blocks.values())]


def test_every_language_has_its_judge() -> None:
    """A block in a language that nobody looks at would not be held to anything; nor is there a judge without blocks."""
    assert {block.language for block in BLOCKS} == LANGUAGES.keys()
    assert {by for by in LANGUAGES.values() if by.startswith("tests/") and not (ROOT / by).exists()} == set()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), CORS_ALLOW_ORIGINS=PAGE) as process:
        yield process


@pytest.fixture(scope="module")
def typescript() -> Path:
    """The compiler; skips where it is not installed."""
    if not (MODULES / "typescript").exists():
        lack("typescript is not installed; to run this test: make typed-client")
    return MODULES / "typescript"


def test_the_page_may_ask(server: ServerProcess) -> None:
    """From the origin that the README has its reader name, a browser may send what the SDK and a proxy want."""
    wanted = ["authorization", "content-type", "x-chat-id"]
    asked = {"access-control-request-method": "POST", "access-control-request-headers": ",".join(wanted)}
    response = server.http.options("/chat", headers={"origin": PAGE, **asked})
    assert response.headers["access-control-allow-origin"] == PAGE
    assert re.findall(r"[\w-]+", response.headers["access-control-allow-headers"]) == wanted


@pytest.mark.parametrize(
    "sdk", [pytest.param(name, marks=[pytest.mark.soak] * name.endswith("first")) for name in SDKS]
)
@pytest.mark.parametrize("block", written("jsx"))
def test_the_front_end_works_as_it_is_written(
    server: ServerProcess, typescript: Path, tmp_path: Path, block: Block, sdk: str
) -> None:
    """With the real SDK: what is typed is asked, and the answer is seen to grow until it is all there."""
    (tmp_path / "Chat.jsx").write_text(block.text.replace(WRITTEN, server.url.removeprefix("http://")))
    command = [*program("../readme/use_chat.mjs"), sdk, str(tmp_path / "Chat.jsx"), str(typescript), QUESTION]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    seen = json.loads(done.stdout)
    assert seen["left"] == "", "what was sent is gone from the input"
    newest = server.http.get("/conversations?limit=1", headers=DEMO).json()[0]["id"]
    *_, answer = server.http.get(f"/conversations/{newest}/messages", headers=DEMO).json()
    assert answer["message"] in seen["growth"][-1]
    assert len(seen["growth"]) > 10, "it is seen to grow"


def test_typescript_compiles(typescript: Path, tmp_path: Path) -> None:
    """Strictly, with the types that are made from the contract; only the names around an example are declared here."""
    node = need_program("node", "install Node.js 20 or later")
    for name in ("client.ts", "tsconfig.json", "package.json"):
        shutil.copy(CLIENT / name, tmp_path)
    (tmp_path / "scene.d.ts").write_text(SURROUNDINGS)
    examples = [case.values[0] for case in written("ts")]
    for number, block in enumerate(examples):
        (tmp_path / f"example{number}.ts").write_text(f"{block.text}\nexport {{}};\n")
    settings = json.loads((CLIENT / "tsconfig.json").read_text())
    settings["compilerOptions"]["noUnusedLocals"] = False
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings | {"include": ["*.ts"]}))
    contract = str(ROOT / "docs/openapi.json")
    made = [node, str(MODULES / "openapi-typescript/bin/cli.js"), contract, "--output", "schema.d.ts"]
    subprocess.run(made, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    command = [node, str(typescript / "bin/tsc"), "--project", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert examples
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("block", written("json"))
def test_a_reply_is_as_it_is_shown(server: ServerProcess, block: Block) -> None:
    """It parses, but for dots that stand for what was left out, and the server's has each of its keys."""
    strings = r'("(?:\\.|[^"\\])*")'
    shown = json.loads(re.sub(rf"{strings}|,?\s*…", lambda found: found[1] or "", block.text))
    reply = server.answer(f"What is a hypothesis? {AT_ONCE}", page_id="project-1")
    assert keys(shown)
    assert keys(shown) <= keys(reply)


def keys(value: Any, place: str = "") -> set[str]:
    """Return the keys of a document, with those around them."""
    if not isinstance(value, dict):
        return set()
    return {f"{place}.{key}" for key in value}.union(*(keys(value[key], f"{place}.{key}") for key in value))
