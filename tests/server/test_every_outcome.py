"""Turns that end in every way there is, as a collector, a scraper and the database's rows tell of them."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import pytest

from telemetry import names
from telemetry.turn_trace import user_hash
from tests.receivers import ReceivedSpan
from tests.server.outcomes.calm import CALM
from tests.server.outcomes.cases import Case
from tests.server.outcomes.conventions import (
    EVENTS,
    METRICS,
    OURS,
    THEIRS,
    catalogue,
    defined,
    wrong_with,
    wrong_with_metric,
)
from tests.server.outcomes.hasty import HASTY
from tests.server.outcomes.house import (
    HASH_KEY,
    SETTINGS,
    USERS,
    House,
    Seen,
    open_house,
    witness,
)
from tests.server.outcomes.narrow import NARROW
from tests.server.outcomes.trace_judge import Trace, due, judge_spans, risen, seconds
from tests.server.rows import stored

HOUSES = {"calm": CALM, "narrow": NARROW, "hasty": HASTY}
CASES = {name: case for cases in HOUSES.values() for name, case in cases.items()}
HASHES = {user_hash(HASH_KEY.encode(), user) for user in USERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All cases of both servers, which have ended since; so everything that will ever be told has been."""

    houses: dict[str, House]
    seen: dict[str, Seen]

    @property
    def spans(self) -> list[ReceivedSpan]:
        """Every span that was received."""
        return [span for house in self.houses.values() for span in house.receiver.spans]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with ExitStack() as stack, ThreadPoolExecutor(len(HOUSES)) as pool:
        houses = {
            name: stack.enter_context(open_house(tmp_path_factory.mktemp(name), **settings))
            for name, settings in SETTINGS.items()
        }
        at_work = [pool.submit(_live, houses[name], cases) for name, cases in HOUSES.items()]
        yield Run(houses=houses, seen={name: seen for work in at_work for name, seen in work.result().items()})


def _live(house: House, cases: dict[str, Case]) -> dict[str, Seen]:
    for method, path in (("BREW", "/chat"), ("GET", "/nowhere?user=canary"), ("POST", "/chat"), ("GET", "/readyz")):
        house.server.http.request(method, path)
    seen = {name: witness(house, len(case.turns), case.act, outlives=case.outlives) for name, case in cases.items()}
    if all(case.outlives for case in cases.values()):
        house.server.send_signal(SIGTERM)
    assert house.server.wait() == 0
    return seen


@pytest.fixture
def seen(run: Run, name: str) -> Seen:
    found = run.seen[name]
    if found.error is not None:
        raise found.error
    return found


@pytest.fixture
def traces(seen: Seen, name: str) -> list[Trace]:
    assert len(seen.lines) == len(CASES[name].turns)
    return [Trace(seen.spans(line["trace_id"])) for line in seen.lines]


every_case = pytest.mark.parametrize("name", CASES)
every_case_outlived = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.outlives])


@every_case
def test_the_trace_is_the_documented_one(traces: list[Trace], name: str) -> None:
    """Each turn has one ended span for each that it began, under the right parents, saying what became of it."""
    for trace, turn in zip(traces, CASES[name].turns, strict=True):
        judge_spans(trace, turn, HASHES)


@every_case
def test_the_log_says_the_same(seen: Seen, traces: list[Trace], name: str) -> None:
    """The turn's line has the span's words, and its figures are the spans' lengths to the nanosecond."""
    for line, trace, turn in zip(seen.lines, traces, CASES[name].turns, strict=True):
        said = (line["turn_id"], line["outcome"], line["error_type"], line["plan"], line["surface"])
        turn_id = trace.turn.attributes["chat.turn.id"]
        assert said == (turn_id, turn.outcome, turn.error, turn.plan, turn.surface)
        assert line["conversation_id"] == trace.turn.attributes.get("session.id")
        lengths = {stage: span.end_ns - span.start_ns for stage, span in [*trace.stages(), (names.TURN, trace.turn)]}
        keys = {**names.PERFORMANCE_KEYS, names.AGENT: names.AGENT_KEY}
        figures = {stage: line["timings"][key] for stage, key in keys.items() if key in line["timings"]}
        assert {stage: round(figure * 1e9) for stage, figure in figures.items()} == {
            stage: lengths.get(stage, 0) for stage in figures
        }


@every_case
def test_the_rows_lead_to_the_span(seen: Seen, traces: list[Trace], name: str) -> None:
    """Two rows name the turn's span, the answer's says how it ended; a turn that stores nothing is named by none."""
    for trace, turn in zip(traces, CASES[name].turns, strict=True):
        rows = stored(seen.house.folder, turn_id=trace.turn.attributes["chat.turn.id"])
        own = [row for row in rows if row["context_data"]["span_id"] == trace.turn.span_id]
        assert [row["sender"] for row in own] == ([] if turn.finish is None else ["user", "assistant"])
        for row in own:
            assert row["context_data"]["trace_id"] == trace.turn.trace_id
            assert row["context_data"].get("finish") == {"user": None, "assistant": turn.finish}[row["sender"]]


@every_case_outlived
def test_the_page_counted_it_once(seen: Seen, traces: list[Trace], name: str) -> None:
    """Every histogram and counter of turns rose by what the spans tell, and no other series of them did."""
    assert seen.after is not None
    counts, sums = due(zip(traces, CASES[name].turns, strict=True))
    assert risen(seen.before, seen.after, ("_count", "_total")) == dict(counts)
    rose = risen(seen.before, seen.after, ("_sum",))
    assert {key: rose.get(key, 0.0) for key in sums} == pytest.approx(sums, abs=1e-6)


@every_case_outlived
def test_the_requests_are_counted(seen: Seen, name: str) -> None:
    """The HTTP histogram has one more of each answer's route and status, the model's failed attempts their codes."""
    case = CASES[name]
    expected = Counter((turn.route, str(turn.status or "none")) for turn in case.turns)
    assert _answers(seen) == expected
    if case.rejected is not None:
        assert _rejections(seen) == dict(case.rejected)


def _answers(seen: Seen) -> Counter[tuple[str, str]]:
    answers: Counter[tuple[str, str]] = Counter()
    for sign, page in ((1, seen.after), (-1, seen.before)):
        assert page is not None
        for (suffix, labels), value in page["http_server_request_duration_seconds"].samples.items():
            of = dict(labels)
            if suffix == "_count" and of["http_request_method"] == "POST" and "stop" not in of["http_route"]:
                answers[of["http_route"], of.get("http_response_status_code", "none")] += sign * int(value)
    return +answers


def _rejections(seen: Seen) -> dict[str, int]:
    pages = [page["llm_upstream_rejections"].samples if page and "llm_upstream_rejections" in page else {}
             for page in (seen.before, seen.after)]  # fmt: skip
    rises = {dict(labels)["code"]: int(value - pages[0].get((suffix, labels), 0))
             for (suffix, labels), value in pages[1].items()}  # fmt: skip
    return {code: rise for code, rise in rises.items() if rise}


def test_a_deferred_turn_is_followed_by_a_replay(run: Run) -> None:
    """The replay of a deferred turn is a trace of its own, linked to the turn's span, which carried both its rows."""
    seen = run.seen["deferred"]
    (line,) = seen.lines
    turn = Trace(seen.spans(line["trace_id"])).turn
    link = (turn.trace_id, turn.span_id, {"chat.turn.id": line["turn_id"]})
    replays = [span for span in run.spans if span.name == "outbox.replay" and link in span.links]
    assert sum(span.attributes["outbox.delivered"] for span in replays) == 2
    for replay in replays:
        trace = [span for span in seen.spans(replay.trace_id) if span != replay]
        assert replay.parent_id == ""
        assert {(span.name, span.parent_id) for span in trace} == {("POST", replay.span_id)}


def test_a_repeat_has_a_trace_of_its_own(run: Run) -> None:
    """A turn that is asked for again is another trace of the same turn; the rows go on to name the first."""
    (first,), (again,) = run.seen["under a key"].lines, run.seen["repeated"].lines
    assert first["turn_id"] == again["turn_id"]
    assert first["trace_id"] != again["trace_id"]
    assert again["details"]["replayed"] is True


def test_each_span_comes_once_and_no_parent_is_missing(run: Run) -> None:
    """Of all spans of all requests none came twice, and each that has a parent came with it."""
    assert len(run.spans) > 500
    ids = Counter((span.trace_id, span.span_id) for span in run.spans)
    assert set(ids.values()) == {1}
    assert [span.name for span in run.spans if span.parent_id and (span.trace_id, span.parent_id) not in ids] == []


@pytest.mark.parametrize("house", HOUSES)
def test_the_last_export_counts_every_turn(run: Run, house: str) -> None:
    """What the collector is sent at the end has each turn once, those too that the end itself cut off."""
    receiver = run.houses[house].receiver
    turns = Counter(
        tuple(span.attributes[f"chat.{key}"] for key in ("plan", "surface", "outcome"))
        for span in receiver.named("chat.turn")
    )
    (durations,) = [metric for metric in receiver.exports[-1] if metric.name == names.TURN_DURATION]
    told = {(of["plan"], of["surface"], of["outcome"]): count for of, count, _ in durations.points}
    assert told == dict(turns)


@pytest.mark.parametrize("house", HOUSES)
def test_every_exemplar_leads_to_a_span(run: Run, house: str) -> None:
    """Trace and span that an exemplar names were received, and the turns' is as long as the exemplar says."""
    pages = [seen.after for seen in run.seen.values() if seen.house is run.houses[house] and seen.after]
    spans = {(span.trace_id, span.span_id): span for span in run.spans}
    exemplars = [
        (name, spans[ids["trace_id"], ids["span_id"]], value)
        for name, family in pages[-1].items()
        for ids, value, _ in family.exemplars.values()
    ]
    assert {name for name, _, _ in exemplars} >= {"chat_turn_duration_seconds", "chat_stage_duration_seconds"}
    for name, span, value in exemplars:
        if name == "chat_turn_duration_seconds":
            assert span.name == "chat.turn"
            assert seconds(span) == pytest.approx(value)


def test_the_tables_of_names_are_whole() -> None:
    """What spans may say is in our chapter of names or defined by the packages, metrics are those of our names."""
    assert defined() >= THEIRS.keys()
    own = chapter("# Span attributes of ours.")
    assert own == OURS.keys() - {names.UPSTREAM_REQUEST_ID} | EVENTS.keys() | {names.RETRY_WAIT, names.PACED_WAIT}
    assert METRICS.keys() == chapter("# Metrics.")


def chapter(title: str) -> set[str]:
    """Return the names of a chapter of `telemetry/names.py`."""
    text = Path(names.__file__).read_text().partition(f"{title}\n")[2].partition("\n\n")[0]
    return {getattr(names, line.partition(":")[0]) for line in text.splitlines()}


def test_every_span_speaks_the_conventions_words(run: Run) -> None:
    """Each attribute and event of each span is known and of its type, and none that is required is missing."""
    wrong = {f"{span.name}: {sentence}" for span in run.spans for sentence in wrong_with(span)}
    assert sorted(wrong) == []
    assert not any("canary" in str(value) for span in run.spans for value in span.attributes.values()), "of a query"


@pytest.mark.parametrize("house", HOUSES)
def test_every_metric_speaks_the_conventions_words(run: Run, house: str) -> None:
    """Each exported metric is known, with the attributes that it must have, and as the packages define it."""
    metrics = run.houses[house].receiver.exports[-1]
    assert {metric.name for metric in metrics} >= catalogue().keys() & METRICS.keys()
    wrong = {f"{metric.name}: {sentence}" for metric in metrics for sentence in wrong_with_metric(metric)}
    assert sorted(wrong) == []
