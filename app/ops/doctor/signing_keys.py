"""The keys that callers' tokens are verified with: whether the project publishes them, or a secret stands in."""

from dataclasses import dataclass

from app.clients.ports import KeyHost
from app.errors import IdentityFault
from app.ops.doctor.finding import Finding, fail, ok
from app.receive.auth.key_set import WrongKeySetError, parse_key_set

CHECK = "identity.keys"


@dataclass(frozen=True, slots=True)
class KeysCheck:
    """Fetches the keys as the server does. `secret` is SUPABASE_JWT_SECRET, if it is set."""

    host: KeyHost
    secret: str | None

    async def look(self) -> list[Finding]:
        """Return whether there is a key that a token can be verified with."""
        try:
            fetched = await self.host.fetch_keys()
        except IdentityFault as fault:
            said = f"the project's keys cannot be fetched ({fault.error_type}), so that nobody can sign in"
            return [fail(CHECK, said, "check that /auth/v1/.well-known/jwks.json of SUPABASE_URL answers")]
        return [judge(fetched.body, self.secret)]


def judge(body: bytes, secret: str | None) -> Finding:
    """Return whether what a host publishes, or the secret where that is an empty list, verifies any token."""
    try:
        published, usable = parse_key_set(body), parse_key_set(body, secret)
    except WrongKeySetError as exc:
        return fail(CHECK, f"what the project publishes is no key set ({exc})", "check SUPABASE_URL")
    if published.keys:
        beside = "; SUPABASE_JWT_SECRET is not used beside them" if secret else ""
        return ok(CHECK, f"the project publishes {len(published.keys)} keys{beside}")
    if usable.keys:
        return ok(CHECK, "the project publishes no keys, and SUPABASE_JWT_SECRET verifies tokens")
    todo = "set SUPABASE_JWT_SECRET to the project's legacy secret, or make a signing key there (ES256)"
    return fail(CHECK, "the project publishes no key that can be used, so that nobody can sign in", todo)
