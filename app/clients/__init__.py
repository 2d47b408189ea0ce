"""Clients: the only files that know a wire format."""

import base64

import httpx

USER_AGENT = "nursery-chat/0.1"
"""Our own: Supabase refuses a secret key that comes with a browser's."""


def basic_authorization(url: httpx.URL) -> dict[str, str]:
    """Return the header for a user and password in a URL, as gateways want them; a key goes in its place."""
    if not url.userinfo:
        return {}
    pair = f"{url.username}:{url.password}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
