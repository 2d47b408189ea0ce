"""Who may import whom, who may read the environment, and who may catch everything: read off the source itself.

docs/ARCHITECTURE.md has the same tables, by folder: they are held against these and against the source.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for top in ("app", "telemetry") for path in (ROOT / top).rglob("*.py"))
DOCUMENT = (ROOT / "docs/ARCHITECTURE.md").read_text("utf-8")

HANDED_ON = {
    "app.turn",
    "app.conversations",
    "app.errors",
    "app.deadlines",
    "app.loopback",
    "app.standing",
    "app.caller_token",
    "app.clients.ports",
}
EDGE = {"app.edge.application", "app.edge.turns", "app.edge.turn_feed", "app.edge.turn_table"}
CONCRETE = {"app.clients.supabase", "app.clients.openai"}

# Package (or file) -> what of `app` it may import beside itself. The longest name that fits a module decides.
MAY_IMPORT: dict[str, set[str]] = {
    "telemetry": set(),
    "app.turn": {"app.errors"},
    "app.conversations": {"app.turn"},
    "app.errors": set(),
    "app.deadlines": {"app.errors"},
    "app.addresses": set(),
    "app.settings": {"app.errors", "app.loopback", "app.addresses", "app.settings_values", "app.url_secrets"},
    "app.settings_values": {"app.addresses"},
    "app.url_secrets": set(),
    "app.loopback": set(),
    "app.caller_token": set(),
    "app.sqlite_wal": set(),
    "app.standing": {"app.turn", "app.clients.ports"},
    "app.welcome": set(),
    "app.admit": HANDED_ON,
    "app.fetch": HANDED_ON,
    "app.generate": HANDED_ON,
    "app.save": HANDED_ON | {"app.sqlite_wal"},
    "app.respond": HANDED_ON,
    "app.receive": HANDED_ON,
    "app.receive.auth": HANDED_ON,
    "app.receive.auth.supabase_identity": HANDED_ON | {"app.receive.auth", "app.receive.rare_lines"},
    "app.receive.routes": HANDED_ON | EDGE | {"app.receive", "app.respond"},
    "app.receive.replies": HANDED_ON | EDGE | {"app.receive", "app.respond"},
    "app.receive.streaming": HANDED_ON | EDGE | {"app.receive", "app.respond"},
    "app.receive.stream_routes": HANDED_ON | EDGE | {"app.receive"},
    "app.receive.rare_lines": HANDED_ON | {"app.admit.rate_limit"},
    "app.receive.limits": HANDED_ON | {"app.admit.rate_limit", "app.receive.rare_lines"},
    "app.receive.auth_failures": HANDED_ON
    | {"app.admit.rate_limit", "app.edge.client_address", "app.receive.identity", "app.receive.limits"},
    "app.receive.history_routes": HANDED_ON
    | EDGE
    | {"app.receive", "app.respond", "app.fetch.history", "app.fetch.history_page"},
    "app.receive.conversation_routes": HANDED_ON | EDGE | {"app.receive", "app.respond", "app.fetch.conversations"},
    "app.chat_turn": HANDED_ON | {"app.admit", "app.fetch", "app.generate", "app.save"},
    "app.edge": HANDED_ON | {"app.chat_turn", "app.respond"},
    "app.ops": HANDED_ON | {"app.respond", "app.edge.application"},
    "app.ops.rollout_routes": HANDED_ON
    | {"app.ops", "app.admit.rollout", "app.receive.payload", "app.edge.application"},
    "app.ops.limiter_routes": HANDED_ON
    | {"app.ops", "app.admit", "app.receive.payload", "app.respond", "app.edge.application"},
    "app.ops.limiter_cli": {"app.errors", "app.loopback"},
    "app.ops.support_routes": HANDED_ON | {"app.ops", "app.edge.application"},
    "app.ops.versions": set(),
    "app.ops.doctor": {
        "app.errors",
        "app.turn",
        "app.settings",
        "app.clients.ports",
        "app.clients.probing",
        "app.receive.auth.key_set",
        "app.save.outbox_values",
        "app.edge.accept",
        "app.ops.limiter_cli.client",
        "app.ops.support_routes",
    },
    "app.ops.outbox_routes": HANDED_ON | {"app.ops", "app.save.outbox_values"},
    "app.clients": {"app.turn", "app.errors", "app.conversations", "app.caller_token"},
    "app.embedded": {"app.clients", "app.sqlite_wal"},
    "app.bootstrap": {"app"},
    "app.contract": HANDED_ON
    | {"app.receive", "app.ops", "app.respond", "app.admit.gate_statistics", "app.generate.agent.values"},
    "app.__main__": {
        "app.errors",
        "app.settings",
        "app.bootstrap",
        "app.ops.whatif",
        "app.ops.limiter_cli",
        "app.ops.doctor",
        "app.ops.versions",
    }
    | {"app.receive.auth.tokens", "app.contract.routes"},
    "app": set(),
}

# File -> how often it catches everything, and why it may. A handler that only looks and raises again needs no row.
MAY_SWALLOW: dict[str, tuple[int, str]] = {
    "app.chat_turn": (1, "a bug of the concurrent plan costs a second go on the sequential one"),
    "app.generate.agent_speaker": (1, "a phase's boundary: the reply stands whatever goes wrong beside it"),
    "app.save.turn_record": (1, "the save: whatever goes wrong, the answer is given"),
    "app.save.outbox_delivery": (1, "the delivery: a bug of ours holds rows up, and ends neither it nor the server"),
    "app.receive.auth.key_source": (
        1,
        "fetching keys: whatever a host does, it ends neither that nor the server",
    ),
    "app.ops.doctor.steps": (
        1,
        "a check's boundary: its fault is a line of the report, and ends neither that nor the doctor",
    ),
    "app.clients.in_process": (1, "the connection guard of an embedded service"),
    "telemetry.providers": (3, "exporter safety: telemetry never fails what it watches"),
    "telemetry.recent_errors": (1, "the same: whoever logs is not failed by what keeps the line"),
    "telemetry.trio_instrument": (1, "the same: a meter that breaks does not end the watching of the loop"),
}
READS_ENVIRONMENT = {"app.settings"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imported(path: Path) -> set[str]:
    """Return every module of ours that a file imports, wherever in it; `from package import module` is that module."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            found |= {_narrowed(node.module, alias.name) for alias in node.names}
    return {name for name in found if is_within(name, "app") or is_within(name, "telemetry")}


def _narrowed(package: str, name: str) -> str:
    file = ROOT.joinpath(*package.split("."), name)
    return f"{package}.{name}" if file.with_suffix(".py").exists() or file.is_dir() else package


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def rule_of(module: str) -> str:
    return max((name for name in MAY_IMPORT if is_within(module, name)), key=len)


def broken_imports(path: Path) -> set[str]:
    module = module_name(path)
    rule = rule_of(module)
    allowed = MAY_IMPORT[rule] | {rule} | (set() if rule == "telemetry" else {"telemetry"})
    if rule == "app":
        allowed = {"telemetry"}
    return {name for name in imported(path) if not any(is_within(name, package) for package in allowed)}


def importers_of(package: str) -> set[str]:
    """Return the modules outside `package` that import it."""
    users = {module_name(path) for path in FILES if any(is_within(name, package) for name in imported(path))}
    return {module for module in users if not is_within(module, package)}


def part_of(module: str) -> str:
    """Return what the document calls a module's part of the house: its folder, or its own name; the ports are apart."""
    if module == "app":
        return "everything"
    if module == "app.clients.ports":
        return "clients.ports"
    return module.removeprefix("app.").partition(".")[0]


def by_part(pairs: Iterable[tuple[str, set[str]]]) -> dict[str, set[str]]:
    """Return which other parts each part names, of pairs of a module and the modules that it names."""
    found: dict[str, set[str]] = {}
    for module, named in pairs:
        part = part_of(module).partition(".")[0]
        others = {part_of(name) for name in named} - {"telemetry"}
        found.setdefault(part, set()).update(other for other in others if not is_within(other, part))
    del found["everything"]  # `app` itself, which has nothing in it
    return found


def table_below(head: str) -> list[list[str]]:
    """Return the cells of a table of the document, row by row."""
    lines = DOCUMENT.partition(f"{head}\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert lines, f"docs/ARCHITECTURE.md has no table {head!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def documented_imports() -> dict[str, tuple[set[str], set[str]]]:
    """Return of each part what it may import, and what it imports, by the document's table."""
    handed_on = {part_of(module) for module in HANDED_ON}
    rows: dict[str, tuple[set[str], set[str]]] = {}
    for parts, may, does in table_below("| who | may import | imports |"):
        allowed = set(re.findall("`([^`]+)`", may))
        allowed |= handed_on if may.startswith("what is handed on") else {"everything"} & {may}
        for part in re.findall("`([^`]+)`", parts):
            assert part not in rows, f"two rows of {part}"
            rows[part] = (allowed - {part}, set(re.findall("`([^`]+)`", does)))
    return rows


def broad_handlers(path: Path) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(one is None or ast.unparse(one) in {"Exception", "BaseException"} for one in caught):
                yield node


def raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    leaves = any(isinstance(node, ast.Return | ast.Break | ast.Continue) for node in ast.walk(handler))
    return isinstance(last, ast.Raise) and last.exc is None and not leaves


def suppresses_everything(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or ast.unparse(node.func) not in {"suppress", "contextlib.suppress"}:
        return False
    return bool({ast.unparse(argument) for argument in node.args} & {"Exception", "BaseException"})


def uses(matches: Callable[[ast.AST], bool]) -> set[str]:
    return {module_name(path) for path in FILES if any(matches(node) for node in ast.walk(tree(path)))}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_module_imports_only_what_its_row_allows(path: Path) -> None:
    """A file imports nothing of ours but what the table gives its package, the package itself, and telemetry."""
    assert broken_imports(path) == set()


def test_every_row_is_about_something() -> None:
    """No row of the table is left over from a module that is gone, and no top-level module lacks one."""
    modules = {module_name(path) for path in FILES}
    assert {name for name in MAY_IMPORT if not any(is_within(module, name) for module in modules)} == set()
    assert {module for module in modules if rule_of(module) == "app"} == {"app"}
    assert {name for name in MAY_SWALLOW if name not in modules} == set()


def test_the_document_says_who_may_import_whom() -> None:
    """docs/ARCHITECTURE.md has a row for each folder and file, with what the rows above allow it, and no other."""
    documented = {part: may for part, (may, _does) in documented_imports().items()}
    assert documented == by_part(MAY_IMPORT.items())


def test_the_document_says_who_imports_whom() -> None:
    """Its last column is what the source really imports: a name too many is as wrong as one too few."""
    documented = {part: does for part, (_may, does) in documented_imports().items()}
    assert documented == by_part((module_name(path), imported(path)) for path in FILES)


def test_the_document_says_what_is_handed_on() -> None:
    """The sentence before its table names exactly those files."""
    sentence = DOCUMENT.partition("*What is handed on* stands for ")[2].partition(". ")[0]
    assert set(re.findall("`([^`]+)`", sentence)) == {part_of(module) for module in HANDED_ON}


def test_telemetry_knows_nothing_of_the_app() -> None:
    """No file of `telemetry` imports `app`, not even inside a function."""
    assert {module for module in importers_of("app") if is_within(module, "telemetry")} == set()


@pytest.mark.parametrize("concrete", sorted(CONCRETE | {"app.embedded"}))
def test_only_bootstrap_knows_what_is_concrete(concrete: str) -> None:
    """Real clients and embedded services are picked in one place."""
    assert importers_of(concrete) == {"app.bootstrap.upstreams"}


def test_the_in_process_transport_joins_bootstrap_and_the_embedded_services() -> None:
    """Nobody but them sees it: to a stage, a client is a port."""
    users = importers_of("app.clients.in_process")
    assert {module for module in users if not is_within(module, "app.embedded")} == {"app.bootstrap.upstreams"}


def test_nothing_imports_bootstrap_but_the_command() -> None:
    """The composition root is at the top."""
    assert importers_of("app.bootstrap") == {"app.__main__"}


def test_only_settings_reads_the_environment() -> None:
    """`os.environ` and `os.getenv` occur in one file."""
    names = {"environ", "environb", "getenv", "getenvb"}

    def reads(node: ast.AST) -> bool:
        attribute = isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os"
        return attribute or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and bool(names & {alias.name for alias in node.names})
        )

    assert uses(reads) == READS_ENVIRONMENT


def test_nothing_prints() -> None:
    """What is to be said goes to the log, or through the one `say` of the command."""
    assert uses(lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "pprint"}) == set()


def test_everything_is_caught_at_the_named_places_only() -> None:
    """A handler for everything either raises again as its last word, or stands in the table with its reason."""
    swallowing = {
        module_name(path): sum(not raises_again(handler) for handler in broad_handlers(path)) for path in FILES
    }
    assert {name: count for name, count in swallowing.items() if count} == {
        name: count for name, (count, _reason) in MAY_SWALLOW.items()
    }


def test_the_document_says_where_everything_is_caught() -> None:
    """The four kinds of places in docs/ARCHITECTURE.md have just these files, and the boundaries of `Contained`."""
    named = [path for _kind, where in table_below("| kind | where |") for path in re.findall("`([^`]+)`", where)]
    contained = uses(lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) == "Contained")
    assert sorted(named) == sorted(f"{module.replace('.', '/')}.py" for module in {*MAY_SWALLOW, *contained})


def test_failures_are_contained_at_three_boundaries() -> None:
    """`Contained`, which is a handler for everything too, guards a connection, a request and a turn."""
    users = uses(lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) == "Contained")
    assert users == {"app.edge.connection", "app.edge.observe", "app.edge.turns"}


def test_a_release_that_catches_base_exceptions_raises_again() -> None:
    """`except BaseException`, or a bare `except`, is for letting go of something, and never swallows."""
    for path in FILES:
        for handler in broad_handlers(path):
            if handler.type is None or "BaseException" in ast.unparse(handler.type):
                assert raises_again(handler), f"{module_name(path)}:{handler.lineno}"


def test_nothing_is_suppressed_wholesale() -> None:
    """`suppress(Exception)` would be a handler for everything in disguise."""
    assert uses(suppresses_everything) == set()


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("raise", True),
        ("log(); raise", True),
        ("pass", False),
        ("raise ValueError from None", False),
        ("return; raise", False),
    ],
)
def test_raising_again_is_told_from_swallowing(body: str, verdict: bool) -> None:
    """The judge itself: raising something else, or leaving before the end, is not raising again."""
    source = ast.parse(f"try: pass\nexcept Exception:\n    {body}")
    (handler,) = [node for node in ast.walk(source) if isinstance(node, ast.ExceptHandler)]
    assert raises_again(handler) is verdict
