"""The grammar of faults on demand."""

import math

import pytest

from app.embedded.scripted import faults
from app.embedded.scripted.faults import Fault, UnknownFaultError, read_fault

READ = {
    "no marker [fault: cut]": Fault(),
    "[[fault: http 429 rate_limit_exceeded retry-after=1]]": Fault(
        kind="http", status=429, code="rate_limit_exceeded", headers=(("retry-after", "1"),)
    ),
    "[[fault: http 503 body=html x-should-retry=false retry-after='Sun, 06 Nov 1994 08:49:37 GMT']]": Fault(
        kind="http",
        status=503,
        body="html",
        headers=(("x-should-retry", "false"), ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")),
    ),
    "please [[fault:silent for=1.5]] now": Fault(kind="silent", for_s=1.5),
    "[[fault: stall]]": Fault(kind="stall", after=0, for_s=math.inf),
    "[[fault: stall after=3 for=2]]": Fault(kind="stall", after=3, for_s=2.0),
    "[[fault: cut after=2]]": Fault(kind="cut", after=2),
    "[[fault: end after=2 done=yes]]": Fault(kind="end", after=2, done=True),
    "[[fault: error after=1 code=server_is_overloaded]]": Fault(kind="error", after=1, code="server_is_overloaded"),
    "[[fault: garbage after=1]]": Fault(kind="garbage", after=1),
    "[[fault: no-usage]]": Fault(kind="no-usage"),
    "[[fault: slow first=3 each=0.5]]": Fault(kind="slow", first_s=3.0, each_s=0.5),
}

NOT_READ = (
    "",
    "explode",
    "http",
    "http 200",
    "http teapot",
    "http 429 a b",
    "http 429 body=xml",
    "http 429 Bad_Header=1",
    "http 429 x-a='open",
    "stall after=-1",
    "stall for=inf",
    "cut after=many",
    "cut retry-after=1",
    "end done=maybe",
    "slow each=nan",
)


@pytest.mark.parametrize(("text", "fault"), READ.items())
def test_the_grammar_is_read(text: str, fault: Fault) -> None:
    """Each form of the grammar gives its fault."""
    assert read_fault(text) == fault


@pytest.mark.parametrize("text", NOT_READ)
def test_what_is_outside_the_grammar_is_refused_with_the_known_faults(text: str) -> None:
    """A marker that is not understood is an error that names every known fault, never an answer without a fault."""
    with pytest.raises(UnknownFaultError) as refused:
        read_fault(f"[[fault: {text}]]")
    assert all(kind in str(refused.value) for kind in faults.FORMS)


def test_the_grammar_documents_every_kind() -> None:
    """The module's page has a line for each kind that the table knows."""
    assert faults.__doc__ is not None
    assert all(f"\n    {kind} " in faults.__doc__ for kind in faults.FORMS)
