"""What is going on at the limiter, and what to do about it: one sentence, from the first rule that has one. Pure.

The order is that of what would mislead: a host that refuses, or whose quota is used up, makes turns wait too, and more
slots would make it worse. From a single look nobody can tell whether a count still grows; the sentence then says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from app.ops.limiter_cli.document import Limiter
from app.ops.limiter_cli.history import Look, grown

USED_UP = 0.02
"""Share of a quota; when less is left, the next calls have to wait for it."""
Tone = Literal["quiet", "watch", "act"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A sentence, and how much it matters."""

    text: str
    tone: Tone


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The limiter now, and what grew lately: `since` says since when, for a sentence."""

    now: Limiter
    is_live: bool
    since: str
    overload: int
    quota: int
    shed: int


def advise(looks: Sequence[Look]) -> Advice:
    """Return the sentence for what was seen.

    Args:
        looks: at one process, oldest first, at least one; of the last minute.
    """
    scene = _scene(looks)
    return next(advice for advice in (rule(scene) for rule in RULES) if advice is not None)


def _scene(looks: Sequence[Look]) -> Scene:
    is_live = len(looks) > 1
    return Scene(
        now=looks[-1].limiter,
        is_live=is_live,
        since=f"in the last {max(1, round(looks[-1].at_s - looks[0].at_s))} s" if is_live else "since its start",
        overload=grown(looks, lambda seen: seen.rejections.overload),
        quota=grown(looks, lambda seen: seen.rejections.quota + seen.rejections.quota_wait),
        shed=grown(looks, lambda seen: seen.shed_total),
    )


def _quota(scene: Scene) -> Advice | None:
    pacer = scene.now.pacer
    short = [
        name
        for name, quota in (("tokens", pacer and pacer.tokens), ("requests", pacer and pacer.requests))
        if quota and quota.left < USED_UP * quota.limit
    ]
    waiting = pacer.waiting if pacer else 0
    if not short and not waiting and not (scene.is_live and scene.quota):
        return None
    which = f"{' and '.join(short) or 'quotas'} per minute"
    if waiting:
        wait = _calls(waiting, "waits", "wait")
        return Advice(text=f"{wait} for the host's {which}: more slots do not help.", tone="act")
    tone: Tone = "act" if scene.quota else "watch"
    return Advice(text=f"The host's {which} are used up: more slots do not help.", tone=tone)


def _refusals(scene: Scene) -> Advice | None:
    now = scene.now
    if not scene.is_live or not scene.overload:
        return None
    what = f"The host refuses calls ({scene.overload} {scene.since})"
    if not now.is_adaptive:
        return Advice(text=f"{what}: set fewer slots than {now.total}, or --mode adaptive.", tone="act")
    if now.total <= now.min:
        return Advice(text=f"{what} even at the smallest size, {now.min}: the host needs looking at.", tone="act")
    return Advice(text=f"{what}, and the adaptive limit, {now.total} now, follows: nothing to do.", tone="watch")


def _own_cap(scene: Scene) -> Advice | None:
    now = scene.now
    if not now.waiting or not now.users_at_cap or now.borrowed >= now.total:
        return None
    cap = f"at the cap of {now.per_user_max} calls at once (LLM_PER_USER_MAX)"
    who = f"One user is {cap} and waits" if now.users_at_cap == 1 else f"{now.users_at_cap} users are {cap} and wait"
    return Advice(text=f"{who} for calls of their own: slots are free.", tone="watch")


def _wanting(scene: Scene) -> Advice | None:
    """Too few slots, by what waits or was refused for it."""
    now = scene.now
    if not now.waiting and not (scene.is_live and scene.shed):
        return None
    what = _turns(now.waiting, "waits", "wait") if now.waiting else f"{_turns(scene.shed, 'was', 'were')} refused"
    what = what if now.waiting else f"{what} {scene.since}"
    if now.is_adaptive and now.total < now.max:
        return Advice(text=f"{what}; the adaptive limit grows while the host takes it: nothing to do.", tone="watch")
    cure = "a larger --max" if now.is_adaptive else "more slots"
    if not now.rejections.overload:
        return Advice(text=f"{what} although the host has refused nothing: {cure} would serve them.", tone="act")
    if scene.is_live:
        return Advice(text=f"{what}, and the host refused nothing {scene.since}: try {cure}, a few.", tone="act")
    refused = _calls(now.rejections.overload, "was", "were")
    return Advice(
        text=f"{what}; {refused} refused by the host {scene.since}: watch it live before {cure}.", tone="watch"
    )


def _over(scene: Scene) -> Advice | None:
    now = scene.now
    if now.borrowed <= now.total:
        return None
    return Advice(
        text=f"{now.borrowed} calls run in {now.total} slots: after a cut they end by themselves.", tone="watch"
    )


def _full(scene: Scene) -> Advice | None:
    now = scene.now
    if now.borrowed - now.studies < now.total:
        return None
    return Advice(text=f"All {now.total} slots are in use, and nobody waits: no more than full.", tone="watch")


def _at_cap(scene: Scene) -> Advice | None:
    now = scene.now
    if not now.users_at_cap:
        return None
    who = "One user is" if now.users_at_cap == 1 else f"{now.users_at_cap} users are"
    return Advice(text=f"{who} at the cap of {now.per_user_max} calls at once; nobody waits.", tone="quiet")


def _quiet(scene: Scene) -> Advice:
    return Advice(
        text=f"All quiet: {scene.now.borrowed} of {scene.now.total} slots in use, nobody waits.", tone="quiet"
    )


RULES: tuple[Callable[[Scene], Advice | None], ...] = (
    _quota,
    _refusals,
    _own_cap,
    _wanting,
    _over,
    _full,
    _at_cap,
    _quiet,
)


def _turns(count: int, one: str, many: str) -> str:
    return f"1 turn {one}" if count == 1 else f"{count} turns {many}"


def _calls(count: int, one: str, many: str) -> str:
    return f"1 call {one}" if count == 1 else f"{count} calls {many}"
