"""Clients: the only files that know a wire format."""

import base64

import httpx

USER_AGENT = "nursery-chat/0.1"
"""Our own: Supabase refuses a secret key that comes with a browser's."""


def below(base_url: str, path: str) -> httpx.URL:
    """Return the address of `path` under a base URL; that one's query (an API's version, a gateway's key) stays."""
    base = httpx.URL(base_url)
    own, mark, query = base.raw_path.partition(b"?")
    return base.copy_with(raw_path=own.rstrip(b"/") + path.encode() + mark + query)


def basic_authorization(url: httpx.URL) -> dict[str, str]:
    """Return the header for a user and password in a URL, as gateways want them; a key goes in its place."""
    if not url.userinfo:
        return {}
    pair = f"{url.username}:{url.password}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
