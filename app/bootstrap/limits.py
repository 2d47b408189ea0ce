"""The limits that refuse requests by who sends them, joined as the settings want them."""

from dataclasses import dataclass

from app.admit.rate_limit import RateLimit
from app.receive.auth_failures import AuthFailures
from app.receive.limits import Refusals, TurnLimit
from app.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of each user's turns, of each address's failed authentications, and what both refused."""

    turns: TurnLimit
    failures: AuthFailures
    refusals: Refusals


def build_limits(settings: Settings) -> Limits:
    """Return the limits; nobody has spent anything yet."""
    refusals = Refusals()
    of_user = RateLimit(settings.chat_rate_limit_max, settings.chat_rate_limit_window_sec)
    of_address = RateLimit(max(1, settings.auth_failures_max), settings.auth_failures_window_sec)
    return Limits(
        turns=TurnLimit(of_user if settings.enable_chat_rate_limit else None, refusals),
        failures=AuthFailures(of_address if settings.auth_failures_max else None, refusals, settings.trusted_networks),
        refusals=refusals,
    )
