"""Addresses as settings spell them: networks, origins, URLs. Pure."""

import ipaddress
import re
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]*[a-z0-9.\]]")


def networks(listed: str) -> tuple[Network, ...]:
    """Return the networks of a list with commas; IPv4 ones that are written as IPv6 ones as what they are.

    Raises:
        ValueError: one of them is none.
    """
    parts = (part.strip() for part in listed.split(","))
    return tuple(_unmapped(ipaddress.ip_network(part, strict=False)) for part in parts if part)


def _unmapped(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv4Network) or network.prefixlen < 96:
        return network
    mapped = network.network_address.ipv4_mapped
    return network if mapped is None else ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def browsers_send(origin: str) -> bool:
    """Return whether browsers name an origin so: in lower case, without its scheme's own port, path or anything."""
    try:
        parts = urlsplit(origin)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        return bool(_ORIGIN.fullmatch(origin) and parts.hostname) and parts.port != usual
    except ValueError:  # half a bracket, or a port that is none
        return False


def is_http_address(url: str) -> bool:
    """Return whether a URL names an HTTP host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half a bracket, or a port that is none
        return False


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of an address to listen on.

    Raises:
        ValueError: it is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"must be host:port, and is {address!r}")
    return host.strip("[]"), int(port)
