"""The kinds of values that settings have, each with its bounds or the check that it is one. Pure.

What is said of a value that is none quotes no URL: there may be a password in it.
"""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from app.addresses import browsers_send, host_and_port, is_http_address, networks


def _listens(value: str) -> str:
    host_and_port(value)
    return value


def _are_networks(value: str) -> str:
    for network in networks(value):
        if network.prefixlen == 0:
            raise ValueError(f"{network} is everybody, who could then name any address as their own")
    return value


def _are_origins(value: str) -> str:
    for origin in filter(None, (part.strip() for part in value.split(","))):
        if origin != "*" and not browsers_send(origin):
            raise ValueError(f"{origin!r} is no origin such as https://school.example")
    return value


def _is_http(value: str) -> str:
    if not is_http_address(value):  # urlsplit's own words may quote a password
        raise ValueError("must be a URL that begins with http:// or https://, any password percent-encoded")
    return value


def _has_no_query(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError("must be the project's address alone, without ? or #")
    return value


def _may_be_shown(value: str) -> str:
    if "@" in urlsplit(value).netloc:
        raise ValueError("must have no user and no password: who opens the console sees it")
    if "?" in value or "#" in value or not value.isprintable() or " " in value:
        raise ValueError("must be the address below which the pages are, without ?, # or spaces")
    return value


Seconds = Annotated[float, Field(gt=0, le=3600)]
Count = Annotated[int, Field(ge=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Address = Annotated[str, AfterValidator(_listens)]
Networks = Annotated[str, AfterValidator(_are_networks)]
Origins = Annotated[str, AfterValidator(_are_origins)]
HttpUrl = Annotated[str, AfterValidator(_is_http)]
ProjectUrl = Annotated[HttpUrl, AfterValidator(_has_no_query)]
PublicUrl = Annotated[HttpUrl, AfterValidator(_may_be_shown)]
