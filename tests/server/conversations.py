"""Conversations, and their pages, as a client asks for them."""

from collections.abc import Iterator
from typing import Any

import httpx

from tests.server.process import ServerProcess

NEXT = "x-next-before"


def call(server: ServerProcess, method: str, path: str, user: str = "demo", **options: Any) -> httpx.Response:
    """Send a request of a user's and return the response, whatever it is."""
    headers = {"authorization": f"Bearer {user}", **options.pop("headers", {})}
    return server.http.request(method, path, headers=headers, **options)


def made(server: ServerProcess, user: str = "demo", status: int = 201, **fields: Any) -> dict[str, Any]:
    """Make a conversation and return it."""
    response = call(server, "POST", "/conversations", user, json=fields)
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert list(body) == ["id", "title", "page_id", "created_at", "updated_at"]
    assert response.headers["location"] == f"/conversations/{body['id']}"
    return body


def pages(server: ServerProcess, path: str, user: str, **query: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield a list page by page, each asked for when it is wanted."""
    following: dict[str, str] = {}
    while True:
        response = call(server, "GET", path, user, params={**query, **following})
        assert response.status_code == 200, response.text
        yield response.json()
        if NEXT not in response.headers:
            return
        following = {"before": response.headers[NEXT]}


def listed(server: ServerProcess, user: str, **query: Any) -> list[str]:
    """Return the ids of a user's conversations, as the list has them."""
    return [each["id"] for page in pages(server, "/conversations", user, **query) for each in page]
