"""Every command of the documents is typed into a shell as it stands, or the table says why not.

It is typed in a copy of the checkout, against a server of its own; only the address is another one (`checkout`).
"""

import json
import os
import random
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import trio

from app.embedded.local_model import local_model_missing
from app.save.outbox_file import open_outbox
from tests.needs import lack, need_program
from tests.readme.blocks import Command
from tests.readme.checkout import SECRET, Desk, copied
from tests.readme.documents import COMMANDS, ROOT
from tests.readme.rules import RULES, SCRIPTED, Elsewhere, Exports, Runs, Serves, rules_for
from tests.save.outbox_rows import turn_rows
from tests.server.process import AT_ONCE, ServerProcess, running, until

FIRST = {command.flat: command for command in reversed(COMMANDS)}
"""Each command once, where it stands first."""
ORPHANS = ("var/outbox/3f….sqlite3", "DATA_DIR/outbox/FILE.sqlite3")
TURN_LOGS = ("var/turns.jsonl", "FILE")


def rule_of(command: Command) -> Runs | Exports | Serves | Elsewhere | object:
    (pattern,) = rules_for(command.flat)
    return RULES[pattern]


def of(*kinds: type) -> list[object]:
    """Return the commands of these classes as cases, in the documents' order."""
    known = [command for command in COMMANDS if FIRST[command.flat] is command and len(rules_for(command.flat)) == 1]
    return [
        pytest.param(command, id=f"{command.document}:{command.line} {command.flat[:60]}")
        for command in known
        if isinstance(rule_of(command), kinds)
    ]


def test_every_command_is_in_one_class() -> None:
    """A command that no rule knows, or more than one, is a document that has drifted from its tests."""
    assert {f"{each.document}:{each.line} {each.flat}": rules_for(each.flat) for each in COMMANDS
            if len(rules_for(each.flat)) != 1} == {}  # fmt: skip


def test_every_rule_has_a_command() -> None:
    """What no document says any more has no rule."""
    used = {pattern for command in COMMANDS for pattern in rules_for(command.flat)}
    assert [pattern for pattern in RULES if pattern not in used] == []


def test_what_is_judged_elsewhere_is() -> None:
    """The file that judges it is there."""
    assert [rule.by for rule in RULES.values() if isinstance(rule, Elsewhere) and not (ROOT / rule.by).exists()] == []


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A copy of the checkout with what its reader would have by then, and the servers."""
    folder = copied(tmp_path_factory.mktemp("reader") / "checkout")
    for name in TURN_LOGS:
        record_turns(folder / name)
    for name in ORPHANS:
        leave_behind(folder / name)
    busy = {"OPENAI_API_POOL_SIZE": "1", "LLM_QUEUE_MAX": "0", "LLM_IDLE_TIMEOUT": "0.5"}
    with ExitStack() as stack:
        servers = {
            "open": stack.enter_context(running(folder / "served" / "open", **busy)),
            "signed": stack.enter_context(running(folder / "served" / "signed", SUPABASE_JWT_SECRET=SECRET)),
        }
        fill(servers["open"])
        yield Desk(folder, servers)


def record_turns(path: Path) -> None:
    """Write what `TURN_LOG` would hold after some busy minutes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw, at, lines = random.Random(5), 1_800_000_000.0, list[str]()
    for _ in range(400):
        at += draw.expovariate(2)
        times = {"arrived": round(at, 6), "wait_s": 0.0, "service_s": draw.expovariate(0.25)}
        lines.append(json.dumps({"turn": str(uuid.UUID(int=len(lines))), **times, "outcome": "ok", "reason": None}))
    path.write_text("\n".join(lines) + "\n")


def leave_behind(path: Path) -> None:
    """Make the outbox of a process that is gone, with a turn in it."""

    async def put() -> Path:
        async with open_outbox(path.parent, sync="normal") as outbox:
            await outbox.put(turn_rows(1, user_id="demo"), "A title")
            return outbox.path

    path.parent.mkdir(parents=True, exist_ok=True)
    made = trio.run(put)
    for file in path.parent.glob(f"{made.name}*"):
        file.rename(path.parent / file.name.replace(made.name, path.name))


def fill(server: ServerProcess) -> None:
    """Have turns end in the ways that commands look for: answered, stuck in the middle, and turned away."""
    assert server.ask("Stuck [[fault: stall after=3]]").json()["code"] == "stage_timeout"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.answer, "Slowly [[fault: slow first=0.4 each=0]]")
        server.wait_for_gauge("llm_limiter_borrowed", 1)
        assert server.ask(f"Me too {AT_ONCE}").status_code == 503
        first.result()
    server.http.put("/ops/limiter", json={"total_tokens": 10, "mode": "fixed"})


@pytest.mark.parametrize("command", of(Runs, Exports))
def test_it_does_what_the_page_says(desk: Desk, command: Command) -> None:
    """Typed as it is written, it ends as it should, and prints what a reader is told to expect."""
    rule = rule_of(command)
    if isinstance(rule, Exports):
        assert re.search(rule.says, exported(desk, command, rule))
        return
    assert isinstance(rule, Runs)
    export_before(desk, command)
    given = {"TOKEN": desk.token()} if rule.server == "signed" else {}
    done = desk.run(command.text, rule.server, command.document, **given, **rule.given)
    assert done.returncode == rule.code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    for pattern in rule.says:
        assert re.search(pattern, done.stdout, re.MULTILINE), (pattern, done.stdout, done.stderr)
    if rule.has:
        assert set(rule.has) <= json.loads(done.stdout).keys(), done.stdout


def exported(desk: Desk, command: Command, rule: Exports) -> str:
    """Type an export, keep what it sets for its document, and return that."""
    typed = f'{command.text}\nprintf %s "${rule.name}"'
    done = desk.run(typed, "open", command.document, **rule.given)
    assert (done.returncode, done.stderr) == (0, "")
    desk.exported.setdefault(command.document, {})[rule.name] = done.stdout
    return done.stdout


def export_before(desk: Desk, command: Command) -> None:
    """See to it that what the document exports before a command is set, also where that test was not run."""
    for earlier in COMMANDS:
        if earlier.document == command.document and earlier.line < command.line and rules_for(earlier.flat):
            rule = rule_of(earlier)
            if isinstance(rule, Exports) and rule.name not in desk.exported.get(command.document, {}):
                exported(desk, earlier, rule)


@pytest.mark.parametrize("command", of(Serves))
def test_it_serves_until_it_is_stopped(desk: Desk, command: Command) -> None:
    """It says where it listens and what will answer, and is ready some time later, with its plan; Ctrl-C ends it."""
    rule = rule_of(command)
    assert isinstance(rule, Serves)
    need_model(rule)
    words = command.flat.split()
    given = dict(word.split("=") for word in words if re.match(r"[A-Z_]+=", word) and word != "LLM=scripted")
    typed = [word for word in words if word.partition("=")[0] not in given]
    if typed[0] == "make":
        typed[0] = need_program("make", "apt-get install make")
        dry_run = [*typed, "--dry-run"]
        planned = subprocess.run(dry_run, cwd=desk.folder, capture_output=True, text=True, check=True).stdout
        if " pip install" in planned:  # a test installs nothing
            lack("what it serves with is not installed, or older than its lock; to run this test: make install-model")
    given |= {"BIND": "127.0.0.1:0", "DATA_DIR": str(desk.folder / "made" / rule.model)}
    with subprocess.Popen(
        typed,
        cwd=desk.folder,
        env=desk.environment("open", command.document) | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        told = ""
        while "curl" not in told:
            line = process.stdout.readline()
            assert line, (told, process.stderr and process.stderr.read())
            told += line
        assert rule.model in told
        (url,) = re.findall(r"ready at (http://127\.0\.0\.1:\d+) ", told)
        until(lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200, "it is ready", 60)
        plan = httpx.get(f"{url}/ops/rollout", trust_env=False).json()["chat"]
        assert plan == {"optimized": rule.optimized, "percent": 100.0}
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert "server.stopped" in said


def need_model(rule: Serves) -> None:
    """Skip where the model is not installed, or is to be left out."""
    if rule.model == SCRIPTED:
        return
    if os.environ.get("NO_LOCAL_MODEL") == "1":
        pytest.skip("NO_LOCAL_MODEL=1: the local model is left out")
    if missing := local_model_missing():
        lack(f"{missing}; to run this test: make install-model")
