"""The typed client: made from the committed contract, compiled strictly, and used against a real server."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.errors import KINDS
from tests.contract.judge import COPY
from tests.needs import lack, need_program
from tests.server.process import PROJECT_ROOT, WAIT_S, ServerProcess

CLIENT = PROJECT_ROOT / "clients" / "typescript"
MODULES = CLIENT / "node_modules"
GET_NODE = "install Node.js 20 or later"
GET_MODULES = "openapi-typescript and typescript are not installed; to run this test: make typed-client"
FILES = ("client.ts", "example.ts", "tsconfig.json", "package.json")
RUN = "import { example } from './example.js'; await example((text) => console.log(text), process.argv[2]);"
MISUSES = {  # what is wrong -> the compiler's error
    "client.chat({});": "TS2345",
    "client.chat({ message: 1 });": "TS2322",
    "(await client.chat({ message: 'a' })).respones;": "TS2551",
    "for await (const part of client.chatStream({ message: 'a' })) part.delta;": "TS2339",
    "const code: 'teapot' = problem.code; code;": "TS2322",
    "client.conversations({ limit: 'ten' });": "TS2322",
    "const code: 'rate_limited' = missing.code; code;": "TS2322",
    "const code: 'teapot' | null = error.code; code;": "TS2322",
    "const body: Bodies['AgentPayload'] = { mock_mode: false }; body;": "TS2741",
    "const body: Bodies['UiBody'] = { id: 'a', messages: [{ id: 'b', role: 'user', parts: [{ type: 'file' }] }] };": (
        "TS2322"
    ),
}
USES = (
    "const body: Bodies['AgentPayload'] = { message: 'hi' }; body;",
    "const body: Bodies['UiBody'] = { id: 'a', messages: [answer, question] }; body;",
    "const body: Bodies['UiBody'] = { id: 'a', messages: (await client.uiHistory()).items }; body;",
    "const body: Bodies['RolloutChange'] = { chat: {} }; body;",
    "const body: Bodies['LimiterBody'] = { total_tokens: 12 }; body;",
    "const code: 'not_found' = missing.code; code;",
    "const code: 'bad_json' | 'bad_request' | 'message_empty' | 'message_too_long' = wrong.code; code;",
    "const code: Bodies['ErrorCode'] | null = error.code; code;",
    "client.history({ before: (await client.history()).nextBefore ?? '17' });",
)
SCENE = """\
import type {{ ChatClient, Problem, ProblemError }} from "./client.js";
import type {{ components, operations }} from "./schema.js";
type Bodies = components["schemas"];
type Answers<name extends "chat" | "history"> = operations[name]["responses"];
declare const client: ChatClient, problem: Problem, error: ProblemError;
declare const missing: Answers<"history">[404]["content"]["application/problem+json"];
declare const wrong: Answers<"chat">[400]["content"]["application/problem+json"];
const text = {{ type: "text" as const, text: "a" }};
const answer = {{ id: "m", role: "assistant" as const, parts: [{{ type: "step-start" }}, text] }};
const question = {{ id: "n", role: "user" as const, metadata: {{ a: 1 }}, parts: [text] }};
{line}
export {{ client, problem, error, missing, wrong, answer, question }}; export type {{ Bodies }};
"""
LINE = SCENE[: SCENE.index("{line}")].count("\n") + 1


@dataclass(frozen=True, slots=True)
class Package:
    """The client as it was compiled, once for all tests; `told` is what the compiler said."""

    folder: Path
    told: str


def node(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Node.js in a folder."""
    program = need_program("node", GET_NODE)
    return subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=5 * WAIT_S
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Make the types, and compile the client, its example, and some misuses of it."""
    need_program("node", GET_NODE)
    if not (MODULES / "typescript").exists() or not (MODULES / "openapi-typescript").exists():
        lack(GET_MODULES)
    folder = tmp_path_factory.mktemp("client")
    for name in FILES:
        shutil.copy(CLIENT / name, folder)
    for kind, lines in (("misuse", MISUSES), ("use", USES)):
        for number, line in enumerate(lines):
            (folder / f"{kind}{number}.ts").write_text(SCENE.format(line=line))
    settings = json.loads((CLIENT / "tsconfig.json").read_text())
    (folder / "tsconfig.json").write_text(json.dumps(settings | {"include": ["*.ts"]}))
    made = node(folder, str(MODULES / "openapi-typescript/bin/cli.js"), str(COPY), "--output", "schema.d.ts")
    assert made.returncode == 0, made.stderr
    done = node(folder, str(MODULES / "typescript/bin/tsc"), "--project", ".", "--noEmit", "false")
    return Package(folder, done.stdout)


def test_it_compiles_strictly(package: Package) -> None:
    """Client and example fit the types of the contract; that the compiler was strict, the misuses show."""
    assert [line for line in package.told.splitlines() if not line.startswith(("misuse", "use", " "))] == []
    assert json.loads((CLIENT / "tsconfig.json").read_text())["compilerOptions"]["strict"] is True


@pytest.mark.parametrize(("number", "told"), list(enumerate(MISUSES.values())), ids=list(MISUSES))
def test_misuse_does_not_compile(package: Package, number: int, told: str) -> None:
    """The types are not `any`: a missing, wrong or misspelt field is an error."""
    assert re.search(rf"^misuse{number}\.ts\({LINE},\d+\): error {told}:", package.told, re.MULTILINE), package.told


@pytest.mark.parametrize("number", range(len(USES)), ids=USES)
def test_what_the_server_takes_compiles(package: Package, number: int) -> None:
    """A body without what has a default, an answer of the SDK's among messages, and a code by its status are typed."""
    assert not re.search(rf"^use{number}\.ts\(", package.told, re.MULTILINE), package.told


def scene(package: Package, name: str, *more: str) -> Any:
    """Return what a scene of `client_alone.js` tells."""
    shutil.copy(Path(__file__).parent / "client_alone.js", package.folder)
    done = node(package.folder, "client_alone.js", name, *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_query_is_sent_by_older_browsers_too(package: Package) -> None:
    """Nothing of it is lost where `URLSearchParams` has no `size`; without a query there is no question mark."""
    address = "http://chat.example/conversations"
    assert scene(package, "query") == [f"{address}?q=a%26b&limit=2", address]


def test_a_given_fetch_is_called_as_a_browser_wants_it(package: Package) -> None:
    """`window.fetch`, handed over as it is, is not called as a method of the client."""
    assert scene(package, "caller") == [True]


def test_every_refusal_is_a_problem_with_what_is_known_of_it(package: Package) -> None:
    """Code and sentence come from the body, else from header and text; a body that is cut short is no other error."""
    found = scene(package, "refusals")
    assert {name: each["status"] for name, each in found.items()} == dict.fromkeys(found, 404)
    assert {name: (each["code"], each["message"], each["problem"]) for name, each in found.items()} == {
        "problem": ("not_found", "It is gone.", "not_found"),
        "sentence": ("not_found", "消えました。", None),
        "cut problem": ("not_found", "HTTP 404", None),
        "broken off": ("not_found", "HTTP 404", None),
        "another's page": (None, "HTTP 404", None),
        "nothing at all": (None, "HTTP 404", None),
        "no object": (None, "HTTP 404", None),
    }


def test_a_sentence_of_a_real_server_is_shown(package: Package, server: ServerProcess) -> None:
    """What the AI SDK would be told as plain text, the client has with its code, in the reader's language."""
    told = scene(package, "real", server.url)
    assert told == {
        "status": 401, "code": "unauthenticated", "message": KINDS["unauthenticated"].japanese, "problem": None
    }  # fmt: skip


def test_parts_are_the_same_however_a_stream_is_cut(package: Package) -> None:
    """In two at every byte, or byte by byte, and with either end of lines; without its last event it is cut off."""
    told = scene(package, "borders")
    for name in ("LF", "CR LF"):
        assert told["found"][name]["ways"] > 100
        assert [json.loads(outcome) for outcome in told["found"][name]["outcomes"]] == [told["wanted"]]
        assert json.loads(told["found"][f"{name}, cut"]) == told["cut"]


def test_it_talks_to_a_real_server(package: Package, server: ServerProcess) -> None:
    """The example, run as it stands, streams an answer, asks again, and reads history and conversations."""
    (package.folder / "run.js").write_text(RUN)
    done = node(package.folder, "run.js", server.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("in ") and line.endswith(" s") for line in lines)
    assert "user: And why not all of them?" in lines
    assert lines[-1] == "Why do leaves turn red?"
