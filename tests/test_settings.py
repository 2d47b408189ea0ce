"""Settings: what is wrong is said in one line, and what is secret is not shown."""

import pytest

from app.errors import StartError
from app.loopback import host_name, is_loopback
from app.settings import load_settings


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
