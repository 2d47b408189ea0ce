"""Request headers: `Prefer`, `Accept`, `Range`, and the profile that names the schema."""

import re
from collections.abc import Iterable
from typing import Final, cast

from app.embedded.postgrest.errors import DialectError, unsupported
from app.embedded.postgrest.request import Preferences, Resolution, Returned, Verb

# name -> the values this dialect honours
PREFERENCES: Final = {
    "return": frozenset({"minimal", "representation", "headers-only"}),
    "resolution": frozenset({"merge-duplicates", "ignore-duplicates"}),
    "count": frozenset({"exact"}),
    "missing": frozenset({"default", "null"}),
    "handling": frozenset({"strict", "lenient"}),
    "tx": frozenset({"commit"}),
    "timezone": frozenset({"UTC", "Etc/UTC"}),
}
# Values that PostgREST would act on. To ignore them would be a wrong answer.
LEFT_OUT: Final = {"count": frozenset({"planned", "estimated"}), "tx": frozenset({"rollback"})}
MAX_AFFECTED: Final = re.compile(r"max-affected=([0-9]{1,18})", re.ASCII)

SINGLE_OBJECT: Final = frozenset({"application/vnd.pgrst.object+json", "application/vnd.pgrst.object"})
LIST: Final = frozenset({"*/*", "application/*", "application/json"})
ITEM_RANGE: Final = re.compile(r"([0-9]{1,18})-([0-9]{0,18})", re.ASCII)


class Headers:
    """Request headers by lower-case name; a repeated one counts as a list."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in raw:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def get(self, name: str) -> str:
        """Return the header's values joined by commas; empty when it is missing."""
        return ",".join(self._values.get(name, ()))


def parse_prefer(text: str) -> Preferences:
    """Return what `Prefer: text` asks for; of a preference that is named twice the first one counts.

    Raises:
        DialectError: PGRST122, strict handling and a preference that is unknown; PGRST127, one that is left out here.
    """
    found: dict[str, str] = {}
    unknown: list[str] = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = term.partition("=")
        _refuse_left_out(name, value)
        if value in PREFERENCES.get(name, ()) or MAX_AFFECTED.fullmatch(term):
            found.setdefault(name, value)
        else:
            unknown.append(term)
    strict = found.get("handling") == "strict"
    if strict and unknown:
        details = f"Invalid preferences: {', '.join(unknown)}"
        raise DialectError("PGRST122", "Invalid preferences given with handling=strict", details=details)
    return _preferences(found, strict=strict)


def _refuse_left_out(name: str, value: str) -> None:
    zone = name == "timezone" and value not in PREFERENCES["timezone"]
    if zone or value in LEFT_OUT.get(name, ()):
        raise unsupported(f"The preference {name}={value} is")


def _preferences(found: dict[str, str], *, strict: bool) -> Preferences:
    if not strict:
        found.pop("max-affected", None)  # it only counts with strict handling
    return Preferences(
        returned=cast("Returned", found.get("return", "minimal")),
        resolution=cast("Resolution | None", found.get("resolution")),
        count="count" in found,
        missing_default=found.get("missing") == "default",
        max_affected=int(found["max-affected"]) if "max-affected" in found else None,
        applied=tuple(f"{name}={value}" for name, value in found.items()),
    )


def wants_single(accept: str) -> bool:
    """Tell whether `Accept` asks for one object (True) or a list (False), by its order of preference.

    Raises:
        DialectError: PGRST107, neither is acceptable.
    """
    offers = [_offer(term) for term in accept.split(",") if term.strip()] or [(1.0, "*/*")]
    for quality, media_type in sorted(offers, key=lambda offer: -offer[0]):
        if quality > 0 and media_type in SINGLE_OBJECT | LIST:
            return media_type in SINGLE_OBJECT
    raise DialectError("PGRST107", f"None of these media types are available: {accept}")


def _offer(term: str) -> tuple[float, str]:
    media_type, *parameters = (part.strip().lower() for part in term.split(";"))
    quality = 1.0
    for parameter in parameters:
        if parameter.startswith("nulls="):
            media_type += ";" + parameter  # a form of its own, which is not offered
        elif weight := re.fullmatch(r"q=([01](?:\.[0-9]{0,3})?)", parameter):
            quality = float(weight[1])
    return quality, media_type


def parse_range(text: str) -> tuple[int, int | None]:
    """Return offset and limit of `Range: text`; as in PostgREST, a range of another unit counts as none.

    Raises:
        DialectError: PGRST103, it ends before it starts.
    """
    found = ITEM_RANGE.fullmatch(text.strip().removeprefix("items="))
    if found is None:
        return 0, None
    first = int(found[1])
    if not found[2]:
        return first, None
    if int(found[2]) < first:
        details = "The lower boundary must be lower than or equal to the upper boundary in the Range header."
        raise DialectError("PGRST103", "Requested range not satisfiable", details=details)
    return first, int(found[2]) - first + 1


def check_profile(headers: Headers, verb: Verb) -> None:
    """Refuse a schema other than `public`.

    Raises:
        DialectError: PGRST106, the profile header names one.
    """
    profile = headers.get("accept-profile" if verb == "read" else "content-profile")
    if profile not in ("", "public"):
        hint = "Only the following schemas are exposed: public"
        raise DialectError("PGRST106", f"Invalid schema: {profile}", hint=hint)


def check_content_type(text: str) -> None:
    """Refuse a body that does not claim to be JSON; without a word it is JSON.

    Raises:
        DialectError: PGRST102, it claims to be something else.
    """
    media_type = text.partition(";")[0].strip().lower()
    if media_type not in ("", "application/json", "*/*"):
        raise DialectError("PGRST102", f"Content-Type not acceptable: {media_type}")
