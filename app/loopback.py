"""Whether a host is this machine itself: asked of the address we bind, and of the `Host` that a request names."""

import ipaddress
import re


def is_loopback(host: str) -> bool:
    """Return whether `host`, without a port, is `localhost` or a loopback address; no other name is believed."""
    name = host.strip().lower().removeprefix("[").removesuffix("]")
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """Return a `Host` header without its port."""
    return re.sub(r":\d*$", "", header.strip())
