"""Whether a host is this machine itself: asked of the address we bind, and of who sends a request."""

import ipaddress
import re
from typing import Protocol


def is_loopback(host: str) -> bool:
    """Return whether `host`, without a port, is `localhost` or a loopback address; no other name is believed."""
    name = host.strip().lower().removeprefix("[").removesuffix("]")
    try:
        return name == "localhost" or _is_loopback(ipaddress.ip_address(name))
    except ValueError:
        return False


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback  # `::ffff:127.0.0.1`, as sockets for both kinds have it


def host_name(header: str) -> str:
    """Return a `Host` header without its port."""
    return re.sub(r":\d*$", "", header.strip())


class Headers(Protocol):
    """A request's headers."""

    def getlist(self, key: str) -> list[str]:
        """Return the values of all headers of that name, in their order."""


def is_from_here(headers: Headers) -> bool:
    """Return whether a request was sent on this machine, for a server that listens on loopback.

    By its `Host`: a page on the Web may point a name of its own at us. And by whom it was passed on for: behind a proxy
    a stranger's request comes from this machine too, and under its name; what a front end's development server passes
    on is for a loopback address. `Forwarded` is not read, and so not believed where it stands alone.
    """
    hosts, passed_on = headers.getlist("host"), headers.getlist("x-forwarded-for")
    addresses = [entry for entry in ",".join(passed_on).split(",") if entry.strip()]
    if not addresses and (passed_on or headers.getlist("forwarded")):
        return False
    here = (is_loopback(host_name(host)) for host in hosts)
    return bool(hosts) and all(here) and all(map(_is_loopback_entry, addresses))


def _is_loopback_entry(entry: str) -> bool:
    """Return whether an address of a list is loopback, be it with a port; a bare IPv6 address can have none."""
    has_port = entry.strip().startswith("[") or entry.count(":") == 1
    return is_loopback(host_name(entry) if has_port else entry)
