"""Whose address a request counts for, whatever a stranger writes into `X-Forwarded-For`."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.edge.client_address import MAX_ENTRIES, UNKNOWN, client_address

OURS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7/32"))
PROXY, CLIENT = "10.1.2.3", "198.51.100.9"

CASES: dict[str, tuple[str | None, list[str], str]] = {
    "no proxy": (CLIENT, [], CLIENT),
    "a stranger's word": (CLIENT, ["203.0.113.1"], CLIENT),
    "a stranger's word on a proxy of ours": (CLIENT, ["10.0.0.1"], CLIENT),
    "a proxy that says nothing": (PROXY, [], PROXY),
    "one proxy": (PROXY, [CLIENT], CLIENT),
    "spoofed to the left": (PROXY, [f"203.0.113.1, 10.9.9.9, {CLIENT}"], CLIENT),
    "a spoofed header before": (PROXY, ["203.0.113.1", CLIENT], CLIENT),
    "two proxies": (PROXY, [f"203.0.113.1, {CLIENT}, 192.0.2.7"], CLIENT),
    "two proxies, a header each": (PROXY, [CLIENT, "fd00::1"], CLIENT),
    "ours alone": (PROXY, ["10.0.0.9,10.0.0.8"], "10.0.0.9"),
    "spaces and tabs": (PROXY, [f"  1.1.1.1 ,\t{CLIENT}\t "], CLIENT),
    "empty elements": (PROXY, ["", f", ,{CLIENT},, ", ""], CLIENT),
    "nothing but empty elements": (PROXY, [", ,"], PROXY),
    "a port": (PROXY, [f"{CLIENT}:4711"], CLIENT),
    "a port on ours": (PROXY, [f"{CLIENT}, 10.0.0.8:80"], CLIENT),
    "IPv6": (PROXY, ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
    "IPv6 of the same network": (PROXY, ["2001:DB8:1:2:ffff::"], "2001:db8:1:2::/64"),
    "IPv6 in brackets": (PROXY, ["[2001:db8::1]"], "2001:db8::/64"),
    "IPv6 in brackets, with a port": (PROXY, ["[2001:db8::1]:443"], "2001:db8::/64"),
    "IPv6 as a connection": ("2001:db8:0:1::5", [], "2001:db8:0:1::/64"),
    "IPv6 with a zone": ("fe80::1%eth0", [], "fe80::/64"),
    "IPv4 as IPv6": (f"::ffff:{CLIENT}", [], CLIENT),
    "IPv4 as IPv6, in a list": (PROXY, [f"[::ffff:{CLIENT}]:80"], CLIENT),
    "a proxy of ours as IPv6": (f"::ffff:{PROXY}", [CLIENT], CLIENT),
    "a word": (PROXY, ["unknown"], PROXY),
    "a word to the left": (PROXY, [f"unknown, {CLIENT}"], CLIENT),
    "a word between ours": (PROXY, [f"{CLIENT}, unknown, 10.0.0.8"], "10.0.0.8"),
    "a word to the right": (PROXY, [f"{CLIENT}, _hidden"], PROXY),
    "no peer": (None, [CLIENT], UNKNOWN),
    "a peer without an address": ("/run/chat.sock", [CLIENT], UNKNOWN),
}

MALFORMED = [
    "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4:", "1.2.3.4:port", "1.2.3.4:123456", "1.2.3.4:٣",
    "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]443", "[2001:db8::1]:", "[]", "[]:80", "[1.2.3.4", ":", "::g",
    "1.2.3.4 5.6.7.8", "1.2.3.4;5.6.7.8", "for=1.2.3.4", '"1.2.3.4"', "1.2.3.4/8", "http://1.2.3.4", "localhost",
]  # fmt: skip


@pytest.mark.parametrize(("peer", "forwarded", "address"), CASES.values(), ids=CASES)
def test_the_last_that_is_not_ours_counts(peer: str | None, forwarded: list[str], address: str) -> None:
    """The connection's own, or of what our proxies say the last that is not theirs; an IPv6 address by its /64."""
    assert client_address(peer, forwarded, OURS) == address


@pytest.mark.parametrize("entry", MALFORMED)
def test_what_is_no_address_is_never_counted(entry: str) -> None:
    """A proxy that passes such a thing on is counted itself, and what stands left of it is not looked at."""
    assert client_address(PROXY, [f"{CLIENT}, {entry}"], OURS) == PROXY


@given(st.lists(st.text(st.characters(codec="latin-1"), max_size=20), max_size=5))
def test_a_client_cannot_choose_what_it_counts_for(written: list[str]) -> None:
    """Whatever it writes, in however many headers, behind a proxy it counts as the address that it called from."""
    assert client_address(PROXY, [*written, CLIENT], OURS) == CLIENT
    assert client_address(PROXY, [*written[:-1], f"{''.join(written[-1:])}, {CLIENT}"], OURS) == CLIENT
    assert client_address(CLIENT, written, OURS) == CLIENT


def test_a_long_list_is_read_from_its_end() -> None:
    """As much as a request's head may have does not matter: nothing left of the client is looked at."""
    assert client_address(PROXY, [", ".join(["203.0.113.1"] * 5000), CLIENT], OURS) == CLIENT


@pytest.mark.parametrize("padding", ["10.0.0.8", " "], ids=["ours", "empty"])
@pytest.mark.parametrize("lines", [1, MAX_ENTRIES])
def test_of_a_list_so_many_entries_are_read(padding: str, lines: int) -> None:
    """Twenty; a list that is ours to its twentieth counts as what was read last, however long it goes on."""
    last = PROXY if padding == " " else padding
    for more, address in ((MAX_ENTRIES - 1, CLIENT), (MAX_ENTRIES, last), (20_000, last)):
        entries = [CLIENT, *[padding] * more]
        written = [", ".join(entries)] if lines == 1 else [*[CLIENT] * lines, *entries]
        assert client_address(PROXY, written, OURS) == address
