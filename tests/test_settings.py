"""Settings: what is wrong is said in one line, and what is secret is not shown."""

import os
from collections.abc import Callable

import pytest

from app.errors import StartError
from app.loopback import host_name, is_loopback
from app.settings import load_settings, proxy_for


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost", "LocalHost"])
def test_loopback_is_loopback(host: str) -> None:
    """Every loopback address, and the one name, is this machine."""
    assert is_loopback(host)
    assert is_loopback(host_name(f"{host}:80" if host != "::1" else "[::1]:80"))


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "10.0.0.1", "127.evil.example", "localhost.evil.example", "::", "[::2]"]
)
def test_nothing_else_is(host: str) -> None:
    """No other address, and no name that anybody could point here, is."""
    assert not is_loopback(host)


@pytest.mark.parametrize("name", ["supabase_url", "openai_base_url"])
@pytest.mark.parametrize(
    "url", ["example.com", "ftp://example.com", "http://", "http://[", "http://h:99999999/v1", "http://h:port"]
)
def test_a_broken_url_is_told_at_the_start(name: str, url: str) -> None:
    """A URL that no request could be sent to stops the start, with its variable's name."""
    with pytest.raises(StartError, match=name.upper()):
        load_settings(**{name: url})


def test_secrets_are_masked_in_urls_too() -> None:
    """A password in a base URL is as hidden as a key."""
    masked = load_settings(openai_base_url="https://user:canary@host/v1", openai_api_key="sk-canary").masked()
    assert "canary" not in str(masked)
    assert masked["OPENAI_BASE_URL"] == "https://**********@host/v1"


@pytest.fixture
def set_proxies(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets the environment's proxies, in place of any that the machine has."""

    def put(variables: dict[str, str]) -> None:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


SECURE = "http://proxy.corp:3128"
PROXIES: list[tuple[dict[str, str], str, str | None]] = [
    ({}, "https://db.corp/x", None),
    ({"HTTPS_PROXY": SECURE}, "https://db.corp/x", SECURE),
    ({"HTTPS_PROXY": SECURE}, "http://db.corp/x", None),
    ({"ALL_PROXY": f"{SECURE}/"}, "http://db.corp/x", f"{SECURE}/"),
    ({"HTTPS_PROXY": "proxy.corp:3128"}, "https://db.corp/x", SECURE),
    ({"https_proxy": "u:pass@proxy.corp"}, "https://db.corp/x", "http://u:pass@proxy.corp"),
    ({"HTTPS_PROXY": SECURE, "NO_PROXY": "db.corp"}, "https://db.corp:8443/x", None),
    ({"HTTPS_PROXY": SECURE, "NO_PROXY": "db.corp"}, "https://u:p@db.corp/x", None),
    ({"HTTPS_PROXY": SECURE, "NO_PROXY": "db.corp:8443"}, "https://u:p@db.corp:8443/x", None),
    ({"HTTPS_PROXY": SECURE, "NO_PROXY": "u"}, "https://u:p@db.corp/x", SECURE),
]


@pytest.mark.parametrize(("variables", "url", "proxy"), PROXIES)
def test_the_standard_variables_name_the_proxy(
    variables: dict[str, str], url: str, proxy: str | None, set_proxies: Callable[[dict[str, str]], None]
) -> None:
    """By the URL's scheme, unless its host is excepted, whoever is named before it; without a scheme it is HTTP's."""
    set_proxies(variables)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize(
    "value",
    [
        "socks5://u:canary@x:1",
        "socks5h://canary",
        "ftp://canary@x",
        "http://",
        "http://u:canary@",
        "u:canary@",
        "http://u:canary@x:port",
        "http://u:canary@[x",
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_at_the_start(
    value: str, set_proxies: Callable[[dict[str, str]], None]
) -> None:
    """By the variable's name, without its value."""
    set_proxies({"HTTPS_PROXY": value})
    with pytest.raises(StartError, match="HTTPS_PROXY") as caught:
        proxy_for("https://db.corp/x")
    assert "canary" not in str(caught.value)
