"""Whose address a request counts for: its connection's, or what a proxy of ours says in `X-Forwarded-For`. Pure.

Each proxy adds the address that it was called from at the right, so only what our own proxies added is true: the list
is read from the right, past those of ours, up to the first that is not. Whatever stands left of that was sent by a
stranger, and is never looked at. An entry that is no address ends the reading too, and so do too many; then the request
counts for the last proxy that was read.
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN = "unknown"
"""What all connections count for whose peer has no address."""
MAX_ENTRIES = 20
"""Read at most. Nobody has so many proxies; only a sender who is one of them could write more that count."""
HOST_BITS = 64
"""Of an IPv6 address: the smallest network that a customer is given has them all (RFC 6177, RFC 7421)."""


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return what a request counts for: an IPv4 address, or the /64 network of an IPv6 one.

    Args:
        peer: the connection's other end.
        forwarded: the request's `X-Forwarded-For` headers, in their order.
        trusted: networks of our proxies.
    """
    address = address_in(peer or "")
    if address is None:
        return UNKNOWN
    if is_within(address, trusted):
        address = _forwarded_for(address, forwarded, trusted)
    return _shared_name(address)


def address_in(text: str) -> Address | None:
    """Return the address in an entry: alone, in brackets, or with a port; None when there is none.

    An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`, as sockets for both have it) is the IPv4 one.
    """
    host = text.strip()
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        if not _is_port(f":{port}"):
            return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Return whether one of the networks has the address."""
    return any(address in network for network in networks)


def _forwarded_for(proxy: Address, forwarded: Sequence[str], trusted: Sequence[Network]) -> Address:
    for entry in reversed(",".join(forwarded).rsplit(",", MAX_ENTRIES)[-MAX_ENTRIES:]):
        if not entry.strip():
            continue  # RFC 9110, 5.6.1: an empty element of a list is none
        address = address_in(entry)
        if address is None:
            return proxy
        if not is_within(address, trusted):
            return address
        proxy = address
    return proxy


def _is_port(text: str) -> bool:
    digits = text.removeprefix(":")
    return text.startswith(":") and digits.isascii() and digits.isdecimal() and len(digits) <= 5


def _shared_name(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address) >> HOST_BITS << HOST_BITS, HOST_BITS)))
