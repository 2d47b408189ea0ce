"""The limiter as a picture for a terminal: from what was seen to what rich draws. Pure.

All words of the server are drawn as `Text`, in which square brackets mean nothing; the document has no other characters
in them than printable ones. Whatever is longer than its place is cut, by the columns that it takes, not its characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.ops.limiter_cli.advice import Tone, advise
from app.ops.limiter_cli.document import Change, Limiter, Quota
from app.ops.limiter_cli.history import KEPT_S, Look, Value, kept, line, per_second

BAR_CELLS = 30
LINE_CELLS = 30
"""Of two seconds each: one look a second leaves none of them empty."""
LABEL = "dim"
STYLES: dict[Tone, str] = {"quiet": "bold green", "watch": "bold yellow", "act": "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """What bars and lines are made of; `levels` from the lowest to the highest."""

    turn: str
    study: str
    free: str
    levels: str


BLOCKS = Glyphs(turn="█", study="▒", free="░", levels="▁▂▃▄▅▆▇█")
ASCII = Glyphs(turn="#", study="+", free=".", levels="_.:-=+*#")


def frame(
    looks: Sequence[Look], *, trouble: str = "", changes: int = 20, glyphs: Glyphs = BLOCKS, is_live: bool = False
) -> RenderableType:
    """Return the picture.

    Args:
        looks: what was seen, oldest first; none while nobody has answered yet.
        trouble: why there is nothing newer, if so.
        changes: how many of the last changes to show at most.
        glyphs: those that the terminal can show.
        is_live: whether there will be another look, so that lines of the last minute mean something.
    """
    parts: list[RenderableType] = [Text(trouble, style="bold red")] if trouble else []
    if looks:
        looks = kept(looks)
        advice = advise(looks)
        parts.append(Text(advice.text, style="dim" if trouble else STYLES[advice.tone]))
        parts += [Text(), _figures(looks, glyphs, is_live), Text(), _changes(looks[-1].limiter, changes)]
    return Group(*parts)


def _figures(looks: Sequence[Look], glyphs: Glyphs, is_live: bool) -> Table:
    now = looks[-1].limiter
    rows = [
        ("mode", _mode(now)),
        ("slots", _slots(now, glyphs)),
        ("waiting", _waiting(now)),
        ("last min", _last_minute(now)),
        ("turns", _turns(looks)),
        ("shed", _shed(looks)),
        ("refusals", _rejections(looks)),
        ("pacer", _pacer(now)),
        ("users", _users(now)),
    ]
    if is_live:
        rows += [
            ("waiting", _line(looks, lambda seen: seen.waiting, 1, glyphs)),
            ("in use", _line(looks, lambda seen: seen.borrowed, now.total, glyphs)),
        ]
    table = Table.grid(padding=(0, 2, 0, 0))
    for label, text in rows:
        table.add_row(Text(label, style=LABEL), text)
    return table


def _mode(now: Limiter) -> Text:
    bounds = f"from {now.min} to {now.max}"
    said = f"{now.mode}, {bounds}" if now.is_adaptive else f"{now.mode} at {now.total} (adaptive: {bounds})"
    return Text.assemble(said, (f"   process {now.instance}", LABEL))


def _slots(now: Limiter, glyphs: Glyphs) -> Text:
    scale = max(now.total, now.borrowed, 1)
    used = -(-now.borrowed * BAR_CELLS // scale)
    studies = min(used, -(-now.studies * BAR_CELLS // scale))
    said = f"  {now.borrowed} of {now.total}" + (f", {now.studies} by studies" if now.studies else "")
    return Text.assemble(
        (glyphs.turn * (used - studies), "red" if now.borrowed > now.total else "cyan"),
        (glyphs.study * studies, "magenta"),
        (glyphs.free * (BAR_CELLS - used), "dim"),
        said,
    )


def _waiting(now: Limiter) -> Text:
    said = f"{now.waiting} of at most {now.queue_max}"
    if not now.waiting:
        return Text(said)
    oldest, most = now.oldest_wait_seconds, now.queue_timeout_seconds
    return Text.assemble(
        said, ", the first for ", (f"{oldest:.1f} s", "red" if oldest > most / 2 else ""), f" of {most:g} s"
    )


def _last_minute(now: Limiter) -> Text:
    last = now.last_minute
    wait = f"wait p50 {_seconds(last.wait_p50_seconds)}, p95 {_seconds(last.wait_p95_seconds)}"
    return Text(f"{wait};  service p50 {_seconds(last.service_p50_seconds)}, p95 {_seconds(last.service_p95_seconds)}")


def _turns(looks: Sequence[Look]) -> Text:
    left = f", {looks[-1].limiter.abandoned:,} left the line"
    return Text.assemble(_count("admitted", looks, lambda seen: seen.admitted, alarming=False), left)


def _shed(looks: Sequence[Look]) -> Text:
    def of(reason: str) -> Value:
        return lambda seen: seen.shed.get(reason, 0)

    return Text(", ").join(_count(reason.replace("_", " "), looks, of(reason)) for reason in looks[-1].limiter.shed)


def _rejections(looks: Sequence[Look]) -> Text:
    counts = (
        _count("overload", looks, lambda seen: seen.rejections.overload),
        _count("quota", looks, lambda seen: seen.rejections.quota),
        _count("held back", looks, lambda seen: seen.rejections.quota_wait),
    )
    return Text(", ").join(counts)


def _count(name: str, looks: Sequence[Look], value: Value, *, alarming: bool = True) -> Text:
    speed = per_second(looks, value)
    grows = f" +{speed:.1f}/s" if speed else ""
    return Text.assemble(f"{name} {value(looks[-1].limiter):,}", (grows, "red" if alarming else "green"))


def _pacer(now: Limiter) -> Text:
    if now.pacer is None:
        return Text("off: the host has named no quota", style=LABEL)
    pacer = now.pacer
    quotas = [_quota(name, quota) for name, quota in (("requests", pacer.requests), ("tokens", pacer.tokens)) if quota]
    return Text(", ").join([*quotas, Text(f"{pacer.waiting} wait for it", style="red" if pacer.waiting else "")])


def _quota(name: str, quota: Quota) -> Text:
    left = max(0.0, quota.left)
    return Text.assemble(
        f"{name} ", (f"{left:,.0f}", "red" if left < quota.limit / 10 else ""), f" of {quota.limit:,.0f}"
    )


def _users(now: Limiter) -> Text:
    return Text(f"{now.users}, of whom {now.users_at_cap} at the cap of {now.per_user_max} calls at once")


def _line(looks: Sequence[Look], value: Value, least: int, glyphs: Glyphs) -> Text:
    """Return a line of the last minute; its top is what was seen at most, or `least` if that is more."""
    seen = line(looks, value, LINE_CELLS)
    top = max(least, 1, *(each for each in seen if each is not None))
    last = len(glyphs.levels) - 1
    cells = "".join(" " if each is None else glyphs.levels[-(-each * last // top)] for each in seen)
    most = max(each for each in seen if each is not None)
    return Text.assemble((cells, "cyan"), (f"  at most {most} in {KEPT_S:.0f} s", LABEL))


def _changes(now: Limiter, most: int) -> RenderableType:
    shown = now.changes[::-1][:most]
    if not shown:
        return Text("" if most <= 0 else "No change of the number of slots so far.", style=LABEL)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=LABEL, pad_edge=False)
    table.add_column("changed (UTC)", no_wrap=True)
    for name in ("from", "to"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    table.add_column("who", no_wrap=True, max_width=16)
    table.add_column("why")  # the only one that may become narrower; it is cut, not folded
    for change in shown:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in _change(change)))
    return table


def _change(change: Change) -> tuple[str, ...]:
    reason = change.reason if change.times == 1 else f"{change.reason} x{change.times}"
    if change.reason == "manual" and change.mode == "adaptive":
        reason = "adaptive"
    at = change.at.astimezone(UTC).strftime("%m-%d %H:%M:%S")
    return at, str(change.before), str(change.after), reason, change.who, change.why


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
