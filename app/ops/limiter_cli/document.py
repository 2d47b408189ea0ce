"""What `GET /ops/limiter` says, read by a client of it. Counts are since the server's start, times are in seconds.

All text has passed `plain`: whoever shows it need not think of escape sequences.
"""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt


def plain(text: str) -> str:
    """Return `text` on one line, with a question mark for all that would not be printed but obeyed."""
    return "".join(char if char.isprintable() else "?" for char in text)


Words = Annotated[str, AfterValidator(plain)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class LastMinute(_Part):
    """Of the turns of the last minute; None where there were none."""

    wait_p50_seconds: NonNegativeFloat | None
    wait_p95_seconds: NonNegativeFloat | None
    service_p50_seconds: NonNegativeFloat | None
    service_p95_seconds: NonNegativeFloat | None


class Rejections(_Part):
    """What the model's host refused: calls at once, its quota of requests or tokens; and what was not sent for that."""

    overload: NonNegativeInt
    quota: NonNegativeInt
    quota_wait: NonNegativeInt


class Quota(_Part):
    """A quota per minute of the host's."""

    limit: float
    left: float


class Pacer(_Part):
    """The quotas that the host named, and how many calls wait for them."""

    waiting: NonNegativeInt
    requests: Quota | None
    tokens: Quota | None


class Change(_Part):
    """A change of the number of slots."""

    at: datetime
    before: NonNegativeInt
    after: NonNegativeInt
    reason: Words
    mode: Words = ""
    who: Words = ""
    why: Words = ""
    times: NonNegativeInt = 1


class Limiter(_Part):
    """The whole document; fields that a newer server sends besides are ignored."""

    instance: Words
    mode: Words
    total: NonNegativeInt = Field(alias="total_tokens")
    min: NonNegativeInt
    max: NonNegativeInt
    borrowed: NonNegativeInt
    studies: NonNegativeInt
    waiting: NonNegativeInt
    oldest_wait_seconds: NonNegativeFloat
    users: NonNegativeInt
    users_at_cap: NonNegativeInt
    queue_max: NonNegativeInt
    queue_timeout_seconds: NonNegativeFloat
    per_user_max: NonNegativeInt
    last_minute: LastMinute
    admitted: NonNegativeInt
    abandoned: NonNegativeInt
    shed: dict[Words, NonNegativeInt]
    rejections: Rejections
    pacer: Pacer | None
    changes: tuple[Change, ...]

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of slots follows the host."""
        return self.mode == "adaptive"

    @property
    def shed_total(self) -> int:
        """How many turns were refused, whatever for."""
        return sum(self.shed.values())
