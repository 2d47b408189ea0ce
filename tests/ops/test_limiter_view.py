"""The picture without a terminal: what it says, what it is made of, and that it keeps its columns."""

import io
import re
from collections.abc import Sequence
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from app.ops.limiter_cli.advice import Tone, advise
from app.ops.limiter_cli.history import Look, grown, kept, line, per_second
from app.ops.limiter_cli.view import ASCII, frame
from tests.ops.limiter_host import CHANGE, look

SHED = {"queue_full": 0, "predicted_wait": 0, "queue_timeout": 0}
NOTHING = {"overload": 0, "quota": 0, "quota_wait": 0}
REFUSED = NOTHING | {"overload": 4}
FULL = {"borrowed": 10, "waiting": 3}
ADAPTIVE: dict[str, Any] = {"mode": "adaptive"}
TIGHT = {"waiting": 0, "requests": None, "tokens": {"limit": 200_000, "left": 100.0}}
QUEUED = {"waiting": 2, "requests": {"limit": 300, "left": 0.5}, "tokens": {"limit": 200_000, "left": 90_000.0}}
AMPLE = QUEUED | {"waiting": 0, "requests": {"limit": 300, "left": 200.0}}


def drawn(looks: Sequence[Look], width: int = 80, *, colour: bool = False, **options: Any) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        height=50,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=colour or None,
        color_system="truecolor" if colour else "auto",
    )
    console.print(frame(looks, **options))
    return out.getvalue()


def row(picture: str, label: str) -> str:
    (found,) = [each for each in picture.splitlines() if each.startswith(f"{label}  ")]
    return found.removeprefix(label).strip()


@pytest.mark.parametrize(
    ("before", "now", "tone", "sentence"),
    [
        (None, {}, "quiet", "All quiet: 3 of 10 slots in use, nobody waits."),
        ({}, {}, "quiet", "All quiet: 3 of 10 slots in use, nobody waits."),
        (None, FULL, "act", "3 turns wait although the host has refused nothing: more slots would serve them."),
        ({}, FULL | {"waiting": 1}, "act", "1 turn waits although the host has refused nothing: more slots"),
        (None, FULL | {"rejections": REFUSED}, "watch", "3 turns wait; 4 calls were refused by the host since its st"),
        (
            {"rejections": REFUSED},
            FULL | {"rejections": REFUSED},
            "act",
            "3 turns wait, and the host refused nothing in the last 30 s: try more slots, a few.",
        ),
        (
            {},
            FULL | {"rejections": REFUSED},
            "act",
            "The host refuses calls (4 in the last 30 s): set fewer slots than 10, or --mode adaptive.",
        ),
        (
            {},
            ADAPTIVE | {"rejections": REFUSED},
            "watch",
            "The host refuses calls (4 in the last 30 s), and the adap",
        ),
        (
            {},
            ADAPTIVE | {"rejections": REFUSED, "min": 10},
            "act",
            "The host refuses calls (4 in the last 30 s) even",
        ),
        (None, ADAPTIVE | FULL, "watch", "3 turns wait; the adaptive limit grows while the host takes it: nothing"),
        (
            None,
            ADAPTIVE | FULL | {"max": 10},
            "act",
            "3 turns wait although the host has refused nothing: a larger",
        ),
        ({}, {"shed": SHED | {"queue_full": 2}}, "act", "2 turns were refused in the last 30 s although the host has"),
        (None, {"shed": SHED | {"queue_full": 2}}, "quiet", "All quiet"),
        (None, {"users_at_cap": 1}, "quiet", "One user is at the cap of 2 calls at once; nobody waits."),
        (None, {"users_at_cap": 2}, "quiet", "2 users are at the cap of 2 calls at once; nobody waits."),
        (
            {},
            {"users_at_cap": 1, "waiting": 1},
            "watch",
            "One user is at the cap of 2 calls at once (LLM_PER",
        ),
        ({}, FULL | {"users_at_cap": 1}, "act", "3 turns wait although the host has refused nothing"),
        (None, {"borrowed": 10}, "watch", "All 10 slots are in use, and nobody waits: no more than full."),
        (None, {"borrowed": 10, "studies": 8}, "quiet", "All quiet: 10 of 10 slots in use"),
        (None, {"borrowed": 12}, "watch", "12 calls run in 10 slots: after a cut they end by themselves."),
        (None, FULL | {"pacer": QUEUED}, "act", "2 calls wait for the host's requests per minute: more slots"),
        (None, FULL | {"pacer": TIGHT}, "watch", "The host's tokens per minute are used up: more slots do not"),
        (
            {},
            {"rejections": NOTHING | {"quota_wait": 1}},
            "act",
            "The host's quotas per minute are used up: more",
        ),
        ({}, {"rejections": NOTHING | {"quota": 1, "overload": 9}}, "act", "The host's quotas per minute are used up"),
        (None, FULL | {"pacer": AMPLE}, "act", "3 turns wait although the host has refused nothing"),
    ],
)
def test_one_sentence_says_what_to_do(
    before: dict[str, Any] | None, now: dict[str, Any], tone: Tone, sentence: str
) -> None:
    """From one look, or from two half a minute apart; what would mislead goes before what it would mislead about."""
    looks = [look(30.0, **now)] if before is None else [look(0.0, **before), look(30.0, **now)]
    advice = advise(looks)
    assert advice.text.startswith(sentence)
    assert advice.text.endswith(".")
    assert "\n" not in advice.text
    assert advice.tone == tone
    assert drawn(looks).startswith(advice.text[:50])


def test_every_figure_is_shown() -> None:
    """The rows of a frame have all that the document tells, by name."""
    last = {"wait_p50_seconds": 0.1, "wait_p95_seconds": 2, "service_p50_seconds": 3.5, "service_p95_seconds": None}
    picture = drawn(
        [
            look(
                **FULL | {"studies": 2, "oldest_wait_seconds": 6.84, "users": 4, "users_at_cap": 1, "abandoned": 3},
                last_minute=last,
                shed={"queue_full": 0, "predicted_wait": 12, "queue_timeout": 1},
                rejections={"overload": 4, "quota": 1, "quota_wait": 5},
                pacer={
                    "waiting": 2,
                    "requests": {"limit": 300, "left": 211.0},
                    "tokens": {"limit": 200_000, "left": 150_331.0},
                },
                changes=[
                    {**CHANGE, "who": "ann", "why": "504s at noon"},
                    {**CHANGE, "before": 12, "mode": "adaptive", "who": "ann"},
                    {**CHANGE, "reason": "cut", "mode": "adaptive", "times": 7},
                ],
            )
        ]
    )
    assert row(picture, "mode") == "fixed at 10 (adaptive: from 1 to 64)   process 1f2e3d4c5b6a"
    assert row(picture, "slots") == "█" * 24 + "▒" * 6 + "  10 of 10, 2 by studies"
    assert row(picture, "waiting") == "3 of at most 64, the first for 6.8 s of 10 s"
    assert row(picture, "last min") == "wait p50 0.10 s, p95 2.00 s;  service p50 3.50 s, p95 -"
    assert row(picture, "turns") == "admitted 812, 3 left the line"
    assert row(picture, "shed") == "queue full 0, predicted wait 12, queue timeout 1"
    assert row(picture, "refusals") == "overload 4, quota 1, held back 5"
    assert row(picture, "pacer") == "requests 211 of 300, tokens 150,331 of 200,000, 2 wait for it"
    assert row(picture, "users") == "4, of whom 1 at the cap of 2 calls at once"
    assert [each.split() for each in picture.splitlines()[-3:]] == [
        ["11-23", "04:00:00", "10", "12", "cut", "x7"],
        ["11-23", "04:00:00", "12", "12", "adaptive", "ann"],
        ["11-23", "04:00:00", "10", "12", "manual", "ann", "504s", "at", "noon"],
    ]


@pytest.mark.parametrize(
    ("fields", "bar"),
    [
        ({"borrowed": 0}, "." * 30),
        ({"borrowed": 1, "total_tokens": 10_000}, "#" + "." * 29),
        ({"borrowed": 5}, "#" * 15 + "." * 15),
        ({"borrowed": 5, "studies": 5}, "+" * 15 + "." * 15),
        ({"borrowed": 20}, "#" * 30),
    ],
)
def test_the_bar_of_slots(fields: dict[str, Any], bar: str) -> None:
    """Studies stand apart from turns, one slot in use is seen whatever the size, and a surplus fills it."""
    assert row(drawn([look(**fields)], glyphs=ASCII), "slots").split()[0] == bar


def test_what_grows_is_shown_with_its_speed() -> None:
    """In the live view each count has its growth per second since the last frame; what stands still has none."""
    before, now = SHED | {"queue_full": 5}, SHED | {"queue_full": 8}
    picture = drawn([look(10, admitted=100, shed=before), look(12, admitted=105, shed=now, rejections=REFUSED)])
    assert row(picture, "turns").startswith("admitted 105 +2.5/s,")
    assert row(picture, "shed") == "queue full 8 +1.5/s, predicted wait 0, queue timeout 0"
    assert row(picture, "refusals").startswith("overload 4 +2.0/s, quota 0,")


def test_the_last_minute_is_a_line() -> None:
    """Each cell is the most of its two seconds, on a scale up to the size; where nobody looked there is none."""
    looks = [look(float(at), borrowed=at % 11, waiting=at // 10) for at in range(31)]
    picture = drawn(looks, glyphs=ASCII, is_live=True).splitlines()
    waiting, in_use = [each[10:40] for each in picture if " in 60 s" in each]
    assert waiting == " " * 14 + "_" * 5 + "-" * 5 + "+" * 5 + "#"
    assert in_use == " " * 14 + "_:-+*#.-=+##:-+*"
    assert line(looks, lambda seen: seen.borrowed, 30)[-6:] == [9, 10, 2, 4, 6, 8]
    assert line(looks, lambda seen: seen.waiting, 30)[:14] == [None] * 14


def test_only_the_last_minute_of_one_process_counts() -> None:
    """Looks that are older, or at the process before a restart, are forgotten; a count that fell has not grown."""
    looks = [look(0.0), look(1.0, instance="old", admitted=999), look(50.0, admitted=5), look(61.0, admitted=8)]
    assert [each.at_s for each in kept(looks)] == [50.0, 61.0]
    assert grown(kept(looks), lambda seen: seen.admitted) == 3
    assert grown([look(0.0, admitted=9), look(1.0, admitted=2)], lambda seen: seen.admitted) == 0
    assert per_second(looks[:1], lambda seen: seen.admitted) is None
    assert per_second([look(5.0), look(5.0)], lambda seen: seen.admitted) is None


def test_trouble_stands_above_what_was_last_seen() -> None:
    """While nobody answers, the frame says so and keeps the figures; before the first answer it says nothing else."""
    assert drawn([], trouble="Nobody answers.") == "Nobody answers.\n"
    assert drawn([look()], trouble="Nobody answers.").splitlines()[:2] == [
        "Nobody answers.",
        "All quiet: 3 of 10 slots in use, nobody waits.",
    ]


@pytest.mark.parametrize("colour", [False, True])
def test_words_of_others_do_nothing_to_the_terminal(colour: bool) -> None:
    """Markup, escape sequences, new lines and turned writing in who and why are shown, not obeyed."""
    evil = "[bold red]x[/] \x1b[31m\x1b]0;t\x07 \x9b2J \r\n \u202egnp \u2028 :smile: \x00"
    change = {**CHANGE, "who": evil, "why": evil, "reason": "\x1b[2J"}
    fields: dict[str, Any] = {
        "mode": "\x1b[H",
        "instance": "\x1b]52;c;aGk=\x07",
        "shed": {"\x1b[5m": 1},
        "changes": [change],
    }
    picture = drawn([look(**fields)], 200, colour=colour)
    ours = re.compile(r"\x1b\[[0-9;]*m")
    left = ours.sub("", picture)
    assert not set(left) & set("\x1b\x07\x9b\r\x00\u202e\u2028")
    assert "[bold red]x[/] ?[31m?]0;t? ?2J ?? ?gnp ? :smile: ?" in left
    assert len(left.splitlines()) == len(drawn([look(changes=[CHANGE])], 200).splitlines())
    if colour:
        assert not {"31", "5"} & {code.group()[2:-1] for code in ours.finditer(picture)}


@pytest.mark.parametrize("who", ["ann", "山田太郎", "山田太郎と長い長い名前の人たち", "é" * 30, "👩‍🏫先生"])
@pytest.mark.parametrize("width", [80, 81, 120])
def test_the_columns_are_aligned(who: str, width: int) -> None:
    """Whatever the letters and their length, `why` begins in the column of its head, and no line is too long."""
    why = "昼に504が多いので 増やします。 " * 6
    changes = [{**CHANGE, "who": who, "why": f"|{why}"}, {**CHANGE, "who": "ben", "why": "|short"}]
    before, now = ({"overload": count, "quota": count, "quota_wait": count} for count in (987, 999))
    looks = [look(rejections=before), look(1.0, rejections=now, pacer=QUEUED, **FULL, changes=changes)]
    picture = drawn(looks, width, is_live=True)
    lines = picture.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert len(lines) == 17
    head, *rows = lines[-3:]
    assert {cell_len(each[: each.index("|")]) for each in rows} == {cell_len(head[: head.index("why")])}


def test_the_newest_changes_come_first_and_no_more_than_fit() -> None:
    """A small terminal shows the last ones only."""
    changes = [{**CHANGE, "after": after} for after in range(20, 40)]
    rows = drawn([look(changes=changes)], changes=3).splitlines()[-3:]
    assert [each.split()[3] for each in rows] == ["39", "38", "37"]
    assert "changed" not in drawn([look(changes=changes)], changes=0)
    assert drawn([look()]).rstrip().endswith("No change of the number of slots so far.")


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR a terminal gets no colour; without it, it does."""
    colours = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
    assert colours.search(drawn([look(**FULL)], colour=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours.search(drawn([look(**FULL)], colour=True))
