"""The last errors that are kept for support: bounded, led to by their traces, and without anybody's words."""

import json
import logging
import math
from collections.abc import Iterator

import pytest

from telemetry.logs import TURN_FIELDS
from telemetry.recent_errors import KEPT, MAX_LINE_CHARS, MAX_TEXT_CHARS, RecentErrors
from telemetry.redaction import MASK, redaction

SECRET, TEXT = "canary-secret/1", "what a student wrote"
log = logging.getLogger("app.somewhere")


@pytest.fixture
def recent() -> Iterator[RecentErrors]:
    errors = RecentErrors(redaction([SECRET]))
    errors.install()
    yield errors
    errors.remove()


def test_warnings_and_errors_are_kept(recent: RecentErrors) -> None:
    """From warning upwards, newest first, at most so many."""
    log.info("not.kept")
    for number in range(KEPT + 3):
        log.warning("kept", extra={"entries": number})
    lines = recent.newest()
    assert len(lines) == KEPT
    assert [lines[0]["entries"], lines[-1]["entries"]] == [KEPT + 2, 3]
    assert (lines[0]["event"], lines[0]["level"], lines[0]["logger"]) == ("kept", "warning", "app.somewhere")


def test_the_turn_of_a_line_is_kept(recent: RecentErrors) -> None:
    """A line of a turn's tasks leads to the turn and to its trace."""
    token = TURN_FIELDS.set({"turn_id": "t", "trace_id": "0af7"})
    log.error("save.failed", extra={"error": "http_503"})
    TURN_FIELDS.reset(token)
    (line,) = recent.newest()
    assert (line["turn_id"], line["trace_id"], line["error"]) == ("t", "0af7", "http_503")


def test_nobodys_words_are_kept(recent: RecentErrors) -> None:
    """Not in an exception's message, in an extra that is none of ours, in what a foreign template was filled with."""
    try:
        raise ExceptionGroup(TEXT, [ValueError(TEXT)])
    except ExceptionGroup:
        log.exception("plan.failed", extra={"message_text": TEXT, "before": {"who": TEXT}, "wait_s": 1.5})
    logging.getLogger("quart.app").error("Exception on request %s", TEXT)
    foreign, own = recent.newest()
    assert TEXT not in json.dumps([foreign, own])
    assert (own["exception"], own["stack"][-1], own["wait_s"]) == ("ExceptionGroup", "ValueError", 1.5)
    assert foreign["event"] == "Exception on request %s"


@pytest.mark.parametrize("message", [f"Exception on request GET /chat/{TEXT}/stream", ValueError(TEXT)])
@pytest.mark.parametrize("name", ["quart.app", "application", "root"])
def test_a_foreign_line_without_a_template_is_its_place(recent: RecentErrors, name: str, message: object) -> None:
    """Whoever formats by himself, as Quart does, may have put a path or anything in: the place that logs is told."""
    logging.getLogger(name).error(message)
    (line,) = recent.newest()
    assert TEXT not in json.dumps(line)
    assert line["logger"] == name
    assert line["event"].startswith(f"{name} test_recent_errors.py:")


def test_our_own_events_are_kept(recent: RecentErrors) -> None:
    """What a logger of ours says is a name from a closed list, with or without a template."""
    for name in ("app", "app.chat_turn", "telemetry.providers"):
        logging.getLogger(name).error("plan.failed")
        assert recent.newest()[0]["event"] == "plan.failed"


def test_the_places_an_exception_came_through_are_kept(recent: RecentErrors) -> None:
    """File, line and function, for whoever has the source."""
    try:
        raise KeyError(TEXT)
    except KeyError:
        log.exception("turn.failed")
    place, kind = recent.newest()[0]["stack"]
    assert place.startswith("test_recent_errors.py:")
    assert place.endswith(" test_the_places_an_exception_came_through_are_kept")
    assert kind == "KeyError"


def test_secrets_are_taken_out(recent: RecentErrors) -> None:
    """A secret that came into a line that is kept is asterisks there, quoted for a URL too."""
    log.error(f"to http://me:{SECRET}@host", extra={"note": "key=canary-secret%2F1"})  # noqa: G004 - as others do
    (line,) = recent.newest()
    assert (line["event"], line["note"]) == (f"to http://me:{MASK}@host", f"key={MASK}")


@pytest.mark.parametrize("length", range(MAX_TEXT_CHARS - len(SECRET), MAX_TEXT_CHARS + 1))
def test_nothing_is_left_of_a_secret_that_is_cut(recent: RecentErrors, length: int) -> None:
    """Wherever a text's bound falls in a secret, the part before it is asterisks too."""
    log.error(f"{'x' * length}{SECRET}", extra={"note": "n" * length + SECRET})  # noqa: G004 - as others do
    (line,) = recent.newest()
    for text in (line["event"], line["note"]):
        assert text[:length].strip("xn") == ""
        assert text[length:].strip("*") == ""


class Unspeakable:
    """A message that cannot be said."""

    def __str__(self) -> str:
        raise RuntimeError("it has no words")


def test_a_line_that_cannot_be_read_fails_nobody(
    recent: RecentErrors, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever logs goes on; logging's own report goes to standard error, and later lines are kept."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    alone = logging.Logger("app.alone")  # the suite's own handlers would fail here
    alone.addHandler(recent)
    alone.warning(Unspeakable())
    assert "it has no words" in capsys.readouterr().err
    alone.warning("later")
    assert [line["event"] for line in recent.newest()] == ["later"]


@pytest.mark.parametrize(
    "number", [math.inf, -math.inf, math.nan, 10**5000, -(1 << 63)], ids=["inf", "-inf", "nan", "endless", "long"]
)
def test_a_number_that_json_has_not_is_left_out(recent: RecentErrors, number: float) -> None:
    """Strict readers take no `Infinity`, and many no endless integer; the rest of the line stays."""
    log.warning("kept", extra={"wait_s": number, "entries": 3})
    (line,) = recent.newest()
    assert "wait_s" not in line
    assert line["entries"] == 3
    json.dumps(line, allow_nan=False)


def test_a_line_is_bounded(recent: RecentErrors) -> None:
    """However much there is to say, a line has its bound, and keeps what it begins with."""
    log.error("x" * 5000, extra={"note": "n" * 5000, **{f"number_{n}": n for n in range(200)}})
    (line,) = recent.newest()
    assert len(json.dumps(line)) <= MAX_LINE_CHARS
    assert (len(line["event"]), line["level"]) == (200, "error")


def test_one_that_was_removed_keeps_no_more(recent: RecentErrors) -> None:
    """A server that has ended leaves nothing behind in the logging of its process."""
    recent.remove()
    log.error("later")
    assert recent.newest() == []
