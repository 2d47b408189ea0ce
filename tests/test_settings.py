"""Settings: what is wrong is said in one line, and what is secret is not shown."""

import os
from collections.abc import Callable

import pytest

from app.errors import StartError
from app.settings import load_settings, proxy_for


@pytest.mark.parametrize("name", ["supabase_url", "openai_base_url"])
@pytest.mark.parametrize(
    "url", ["example.com", "ftp://example.com", "http://", "http://[", "http://h:99999999/v1", "http://h:port"]
)
def test_a_broken_url_is_told_at_the_start(name: str, url: str) -> None:
    """A URL that no request could be sent to stops the start, with its variable's name."""
    with pytest.raises(StartError, match=name.upper()):
        load_settings(**{name: url})


@pytest.mark.parametrize("bind", ["8000", ":8000", "localhost", "localhost:http", "localhost:65536"])
@pytest.mark.parametrize("project", [{}, {"supabase_url": "https://p.test", "supabase_key": "sb_secret_x"}])
def test_a_broken_address_is_told_at_the_start(bind: str, project: dict[str, str]) -> None:
    """An address that cannot be listened on is one line too, in every identity mode."""
    with pytest.raises(StartError, match="BIND"):
        load_settings(bind=bind, **project)


@pytest.fixture
def set_standard(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets proxies and OTLP export in the environment, in place of any that the machine has."""

    def put(variables: dict[str, str]) -> None:
        for name in list(os.environ):
            if name.lower().endswith("_proxy") or name.startswith("OTEL_EXPORTER_OTLP_"):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


URL_SECRETS = [
    ("https://user:in-a-url@host/v1", {"in-a-url"}),
    ("https://user:with%40sign@host/v1", {"with%40sign", "with@sign"}),
    ("https://user:with@sign@host/v1", {"with@sign"}),
    ("https://user:a:colon@host", {"a:colon"}),
    ("https://a-token@host/v1", {"a-token"}),
    ("https://a-token:@host/v1", {"a-token"}),
    ("https://host/v1?api-key=in+a%2Fquery&x=two", {"in+a%2Fquery", "in a/query", "two"}),
    ("https://host/v1?alone#fragment", {"alone", "fragment"}),
    ("https://host/@team/v1", set()),
    ("https://host/v1", set()),
]


@pytest.mark.parametrize(("url", "secret"), URL_SECRETS)
def test_every_secret_can_be_named(url: str, secret: set[str], set_standard: Callable[[dict[str, str]], None]) -> None:
    """Whoever takes secrets out of a text is given all of them, those in URLs as they are written and as meant."""
    set_standard({})
    settings = load_settings(openai_base_url=url, openai_api_key="sk-key", ops_token="token")
    assert set(settings.secrets) == {*secret, "sk-key", "token"}


@pytest.mark.parametrize(
    ("variables", "secret"),
    [
        ({"HTTPS_PROXY": "http://user:pa%20ss@proxy.corp:3128"}, {"pa%20ss", "pa ss"}),
        ({"all_proxy": "user:pass@proxy.corp"}, {"pass"}),
        ({"HTTP_PROXY": "http://user:broken@[proxy"}, {"broken"}),
        ({"NO_PROXY": "localhost,.corp"}, set()),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc, x-key=def=="},
            {"Bearer%20abc", "Bearer abc", "abc", "def=="},
        ),
        ({"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-key=traces"}, {"traces"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:pass@collector"}, {"pass"}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics"}, set()),
    ],
)
def test_the_secrets_of_the_standard_variables_can_be_named(
    variables: dict[str, str], secret: set[str], set_standard: Callable[[dict[str, str]], None]
) -> None:
    """A proxy's password and what the exporter's headers hold are secrets too, also where the address is no good."""
    set_standard(variables)
    assert set(load_settings().secrets) == secret


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://user:canary@host/v1", "https://**********@host/v1"),
        ("https://user:with@canary@host/v1", "https://**********@host/v1"),
        ("https://user:canary@host@host/v1", "https://**********@host/v1"),
        ("https://canary@host", "https://**********@host"),
        ("https://host/v1?api-key=canary&x=canary", "https://host/v1?**********"),
        ("https://user:canary@host/v1?key=canary#canary", "https://**********@host/v1?**********"),
        ("https://host/v1#canary", "https://host/v1#**********"),
        ("https://host/@team/v1", "https://host/@team/v1"),
    ],
)
def test_secrets_are_masked_in_urls_too(url: str, masked: str) -> None:
    """A password in a base URL is as hidden as a key, whatever it is made of; so is a key in the query."""
    shown = load_settings(openai_base_url=url, openai_api_key="sk-canary").masked()
    assert "canary" not in str(shown)
    assert shown["OPENAI_BASE_URL"] == masked


@pytest.mark.parametrize("name", ["supabase_url", "openai_base_url"])
@pytest.mark.parametrize(
    "url", ["https://me:canary\u2100@host", "https://me:canary/x@host", "https://me:canary#x@host"]
)
def test_what_is_wrong_with_a_url_does_not_quote_it(name: str, url: str) -> None:
    """A password that is not percent-encoded may break a URL; what is said of that has no part of it."""
    with pytest.raises(StartError, match=name.upper()) as caught:
        load_settings(**{name: url})
    assert "canary" not in str(caught.value)


KEY, SECRET = "sb_secret_canary", "canary" * 8


@pytest.mark.parametrize(
    ("chosen", "mode"),
    [
        ({}, "dev"),
        ({"supabase_jwt_secret": SECRET}, "supabase"),
        ({"supabase_jwt_secret": SECRET, "auth_mode": "dev"}, "dev"),
        ({"supabase_url": "https://p.test", "supabase_key": KEY}, "supabase"),
        ({"supabase_url": "https://p.test", "supabase_key": KEY, "bind": "0.0.0.0:80"}, "supabase"),
        ({"supabase_url": "https://p.test", "supabase_key": KEY, "auth_mode": "dev"}, "dev"),
        ({"supabase_jwt_secret": SECRET, "auth_mode": "supabase", "bind": "0.0.0.0:80"}, "supabase"),
    ],
)
def test_the_identity_mode_follows_the_project(chosen: dict[str, str], mode: str) -> None:
    """With a project or a secret it is `supabase` unless `dev` is asked for, on any address. Secrets are masked."""
    settings = load_settings(**chosen)
    assert settings.auth == mode
    assert "canary" not in str(settings.masked())


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("https://p.supabase.co", "https://p.supabase.co/auth/v1"),
        ("https://p.supabase.co/", "https://p.supabase.co/auth/v1"),
        ("https://gw:canary@p.test:8443/base/", "https://p.test:8443/base/auth/v1"),
        ("HTTPS://Abc.Supabase.CO:443", "https://abc.supabase.co/auth/v1"),
        ("http://LOCALHOST:80/Base", "http://localhost/Base/auth/v1"),
        ("https://p.test:80", "https://p.test:80/auth/v1"),
        ("http://[::1]:54321", "http://[::1]:54321/auth/v1"),
        (None, None),
    ],
)
def test_the_issuer_is_made_of_the_projects_url(url: str | None, issuer: str | None) -> None:
    """As Auth names itself: without a gateway's password, capitals in the host, or a port that goes without saying."""
    assert load_settings(supabase_url=url, supabase_key=KEY if url else None).token_issuer == issuer


@pytest.mark.parametrize("end", ["?x=1", "/?", "#top", "/base/#"])
def test_a_project_is_an_address_alone(end: str) -> None:
    """A query would end up in the middle of every address that is made of it."""
    with pytest.raises(StartError, match="SUPABASE_URL"):
        load_settings(supabase_url=f"https://p.test{end}", supabase_key=KEY)


@pytest.mark.parametrize("url", ["https://gw:canary@p.test", "https://gw@p.test"])
def test_passthrough_and_a_password_do_not_go_together(url: str) -> None:
    """Both would be the `Authorization` of a read; which one is not left to chance."""
    project = {"supabase_url": url, "supabase_key": KEY}
    assert load_settings(**project).auth == "supabase"
    with pytest.raises(StartError, match="SUPABASE_RLS_PASSTHROUGH") as caught:
        load_settings(**project, supabase_rls_passthrough=True)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["jaeger_url", "grafana_url"])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://me:canary@t.test", "no password"),
        ("https://canary@t.test/x", "no password"),
        ("https://t.test/x?key=canary", r"without \?"),
        ("https://t.test/#canary", r"without \?"),
        ("https://t.test/canary x", r"without \?"),
        ("https://t.test/canary\n", r"without \?"),
        ("javascript:canary()", "http://"),
        ("t.test/canary", "http://"),
        ("//t.test/canary", "http://"),
    ],
)
def test_an_address_that_everybody_sees_has_no_secret(name: str, url: str, why: str) -> None:
    """A viewer's address stands in links: a user, a password or a query stops the start, and is not quoted."""
    with pytest.raises(StartError, match=f"^{name.upper()}: must .*{why}") as caught:
        load_settings(**{name: url})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:3000", "https://t.test/grafana/", "http://[::1]:16686/@team", None])
def test_a_viewer_may_be_anywhere(url: str | None) -> None:
    """Below a path, on a port, or nowhere; it is shown as it is set."""
    assert load_settings(grafana_url=url, jaeger_url=url).masked()["GRAFANA_URL"] == url


PROJECT = {"supabase_url": "https://p.test", "supabase_key": KEY}


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({}, []),
        (PROJECT, []),
        ({"auth_mode": "dev"}, []),
        ({"supabase_jwt_secret": SECRET}, []),
        (PROJECT | {"auth_mode": "dev"}, ["AUTH_MODE"]),
        ({"supabase_jwt_secret": SECRET, "auth_mode": "dev"}, ["AUTH_MODE"]),
        (PROJECT | {"supabase_url": "http://127.0.0.1:54321"}, []),
        (PROJECT | {"supabase_url": "http://[::1]:54321"}, []),
        (PROJECT | {"supabase_url": "http://kong:8000"}, ["SUPABASE_URL"]),
        (PROJECT | {"supabase_url": "http://u:canary@p.test", "auth_mode": "dev"}, ["AUTH_MODE", "SUPABASE_URL"]),
    ],
)
def test_what_is_hardly_meant_is_said(chosen: dict[str, str], named: list[str]) -> None:
    """Believing everybody although there is something to verify with; a project that is spoken to in the clear."""
    doubts = load_settings(**chosen).doubts
    assert [sentence.split()[0].partition("=")[0] for sentence in doubts] == named
    assert "canary" not in str(doubts)


@pytest.mark.parametrize("listed", ["0.0.0.0/0", "::/0", "10.0.0.1, 0.0.0.0/0", "1.2.3.4/0", "::ffff:0.0.0.0/96"])
def test_not_everybody_is_a_proxy_of_ours(listed: str) -> None:
    """Everybody could then name any address as their own."""
    with pytest.raises(StartError, match=r"TRUSTED_PROXIES.*everybody"):
        load_settings(trusted_proxies=listed)


@pytest.mark.parametrize(
    ("listed", "networks"),
    [
        ("10.0.0.1, 10.1.0.0/16", ["10.0.0.1/32", "10.1.0.0/16"]),
        ("::ffff:10.0.0.0/104, ::ffff:192.0.2.1", ["10.0.0.0/8", "192.0.2.1/32"]),
        ("fd00::/8, ::1", ["fd00::/8", "::1/128"]),
        ("", []),
    ],
)
def test_a_network_is_what_its_addresses_are_read_as(listed: str, networks: list[str]) -> None:
    """An IPv4 one that is written as an IPv6 one has IPv4 addresses."""
    assert [str(network) for network in load_settings(trusted_proxies=listed).trusted_networks] == networks


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
    variables: dict[str, str], url: str, proxy: str | None, set_standard: Callable[[dict[str, str]], None]
) -> None:
    """By the URL's scheme, unless its host is excepted, whoever is named before it; without a scheme it is HTTP's."""
    set_standard(variables)
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
    value: str, set_standard: Callable[[dict[str, str]], None]
) -> None:
    """By the variable's name, without its value."""
    set_standard({"HTTPS_PROXY": value})
    with pytest.raises(StartError, match="HTTPS_PROXY") as caught:
        proxy_for("https://db.corp/x")
    assert "canary" not in str(caught.value)
