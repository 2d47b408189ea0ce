"""`python3 compose/service_key.py < secret` prints the key with which the server may do everything in PostgREST.

It is what Supabase calls the legacy service_role key: a token of PostgREST's own secret, valid until somebody changes
that. Nothing but Python is needed.
"""

import base64
import hashlib
import hmac
import json
import sys

MIN_SECRET_BYTES = 32
"""PostgREST and this server both refuse a shorter one."""


def service_key(secret: str) -> str:
    """Return the key of a secret, always the same.

    Raises:
        ValueError: the secret is too short.
    """
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"the secret must have {MIN_SECRET_BYTES} bytes or more")
    signed = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (HEADER, CLAIMS))
    return f"{signed}.{_encoded(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS = {"role": "service_role"}


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


if __name__ == "__main__":
    sys.stdout.write(service_key(sys.stdin.read().strip()) + "\n")
