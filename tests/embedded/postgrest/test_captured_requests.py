"""The requests of the official JavaScript client, path, headers and body as captured, and what they are answered."""

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

READ = {"accept-profile": "public", "accept": "*/*"}
WRITE = {"content-profile": "public", "content-type": "application/json", "accept": "*/*"}
OBJECT = "application/vnd.pgrst.object+json"
CONVERSATION = "c0ffee00-0000-4000-8000-000000000001"


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A request, and what is expected: the status, and the JSON body or some of the fields of its objects."""

    name: str
    method: str = "GET"
    target: str
    headers: dict[str, str] = field(default_factory=lambda: READ)
    body: str | None = None
    status: int = 200
    expected: Any = None
    content_range: str | None = None


def log(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, **fields}


CAPTURED = [
    Captured(
        name="select eq order desc limit",
        target="/chat_logs?select=id%2Csender%2Cmessage&user_id=eq.1&order=created_at.desc&limit=10",
        headers={
            **READ,
            "x-client-info": "supabase-js/2.109.0; runtime=node; runtime-version=20.20.2",
            "apikey": "anon-key",
            "authorization": "Bearer anon-key",
        },
        expected=[
            log(2, sender="x", message="second"),
            log(1, sender="user", message="first"),
            log(3, sender="user", message="third"),
        ],
        content_range="0-2/*",
    ),
    Captured(
        name="select in/gte/is/or/range/count",
        target="/chat_logs?select=*&id=in.%281%2C2%29&created_at=gte.2026-01-01T00%3A00%3A00%2B00%3A00&page_id=is.null"
        "&or=%28a.eq.1%2Cb.eq.2%29&offset=0&limit=10",
        headers={**READ, "prefer": "count=exact"},
        expected=[log(1, a=1, created_at="2026-01-02T00:00:00+00:00", page_id=None), log(2, b=2)],
        content_range="0-1/2",
    ),
    Captured(
        name="select head count",
        method="HEAD",
        target="/chat_logs?select=*&sender=neq.x",
        headers={**READ, "prefer": "count=exact"},
        content_range="0-1/2",
    ),
    Captured(
        name="single",
        target="/users?select=*&id=eq.1",
        headers={**READ, "accept": OBJECT},
        expected={"id": 1, "name": "one"},
    ),
    Captured(name="maybeSingle", target="/users?select=*&id=eq.1", expected=[{"id": 1, "name": "one"}]),
    Captured(
        name="insert one returning",
        method="POST",
        target="/chat_logs?select=*",
        headers={**WRITE, "prefer": "return=representation"},
        body='{"user_id":1,"message":"やあ"}',
        status=201,
        expected=[log(4, user_id=1, message="やあ", sender=None)],
    ),
    Captured(
        name="insert one returning single",
        method="POST",
        target="/chat_logs?select=id",
        headers={**WRITE, "accept": OBJECT, "prefer": "return=representation"},
        body='{"user_id":1,"message":"x"}',
        status=201,
        expected={"id": 4},
    ),
    Captured(
        name="insert many returning",
        method="POST",
        target="/chat_logs?columns=%22user_id%22%2C%22message%22%2C%22sender%22&select=*",
        headers={**WRITE, "prefer": "return=representation"},
        body='[{"user_id":1,"message":"a"},{"user_id":1,"sender":"b"}]',
        status=201,
        expected=[log(4, message="a", sender=None), log(5, message=None, sender="b")],
    ),
    Captured(
        name="insert no returning", method="POST", target="/chat_logs", headers=WRITE, body='{"user_id":1}', status=201
    ),
    Captured(
        name="upsert on_conflict merge",
        method="POST",
        target="/users?on_conflict=id&select=*",
        headers={**WRITE, "prefer": "resolution=merge-duplicates, return=representation"},
        body='{"id":1,"name":"n"}',
        expected=[{"id": 1, "name": "n"}],
    ),
    Captured(
        name="upsert ignoreDuplicates",
        method="POST",
        target="/users?on_conflict=id%2Cname&columns=%22id%22%2C%22name%22&select=*",
        headers={**WRITE, "prefer": "resolution=ignore-duplicates, return=representation"},
        body='[{"id":2,"name":"n"}]',
        status=201,
        expected=[{"id": 2, "name": "n"}],
    ),
    Captured(
        name="upsert defaultToNull=false",
        method="POST",
        target="/users?on_conflict=id&columns=%22id%22%2C%22name%22",
        headers={**WRITE, "prefer": "resolution=merge-duplicates, missing=default"},
        body='[{"id":1},{"id":2,"name":"n"}]',
        status=201,
    ),
    Captured(
        name="update eq",
        method="PATCH",
        target=f"/chat_conversations?id=eq.{CONVERSATION}&select=*",
        headers={**WRITE, "prefer": "return=representation"},
        body='{"title":"t"}',
        expected=[{"id": CONVERSATION, "title": "t"}],
        content_range="0-0/*",
    ),
    Captured(
        name="update eq no returning",
        method="PATCH",
        target="/chat_conversations?id=eq.c",
        headers=WRITE,
        body='{"title":"t"}',
        status=204,
        content_range="0-0/*",
    ),
    Captured(
        name="delete eq",
        method="DELETE",
        target="/chat_conversations?id=eq.c",
        headers=WRITE,
        status=204,
        content_range="*/*",
    ),
    Captured(
        name="embedded select",
        target="/chat_conversations?select=id%2Cchat_logs%28id%2Csender%2Cmessage%29&user_id=eq.1"
        "&chat_logs.order=created_at.desc&chat_logs.limit=20&order=updated_at.desc&limit=5",
        expected=[
            {"id": "c", "chat_logs": []},
            {
                "id": CONVERSATION,
                "chat_logs": [
                    log(2, sender="x", message="second"),
                    log(1, sender="user", message="first"),
                    log(3, sender="user", message="third"),
                ],
            },
        ],
    ),
    Captured(
        name="embedded inner + filter on embedded",
        target="/chat_conversations?select=id%2Cchat_logs%21inner%28id%29&chat_logs.sender=eq.user"
        "&chat_logs.order=id.asc&chat_logs.limit=1",
        expected=[{"id": CONVERSATION, "chat_logs": [log(1)]}],
    ),
    Captured(
        name="rpc post",
        method="POST",
        target="/rpc/match_docs",
        headers=WRITE,
        body='{"q":"x","n":3}',
        status=404,
        expected={"code": "PGRST202"},
    ),
    Captured(name="rpc get", target="/rpc/match_docs?q=x&n=3", status=404, expected={"code": "PGRST202"}),
    Captured(
        name="rpc + filters/limit/single",
        method="POST",
        target="/rpc/match_docs?id=eq.1&limit=1",
        headers={**WRITE, "accept": OBJECT},
        body='{"q":"x"}',
        status=404,
        expected={"code": "PGRST202"},
    ),
    Captured(
        name="schema()",
        target="/users?select=*&limit=1",
        headers={**READ, "accept-profile": "private"},
        status=406,
        expected={"code": "PGRST106"},
    ),
    Captured(
        name="schema() of a table that is not there",
        target="/t?select=*&limit=1",
        headers={**READ, "accept-profile": "private"},
        status=406,
        expected={"code": "PGRST106"},
    ),
]


def shortened(answer: Any, expected: Any) -> Any:
    """Return `answer` with only those fields of its objects that `expected` names."""
    if isinstance(expected, list) and isinstance(answer, list) and len(answer) == len(expected):
        return [shortened(one, other) for one, other in zip(answer, expected, strict=True)]
    if isinstance(expected, dict) and isinstance(answer, dict):
        return {key: shortened(answer.get(key, "absent"), value) for key, value in expected.items()}
    return answer


@pytest.mark.parametrize("case", CAPTURED, ids=lambda case: case.name)
async def test_a_captured_request_is_answered_as_postgrest_answers_it(
    case: Captured, captured_api: httpx.AsyncClient
) -> None:
    """Each spelling of the official client gets PostgREST's status, rows and Content-Range."""
    content = None if case.body is None else case.body.encode()
    response = await captured_api.request(case.method, case.target, headers=case.headers, content=content)
    assert response.status_code == case.status, response.text
    answer = response.json() if response.content else None
    assert shortened(answer, case.expected) == case.expected
    if case.content_range is not None:
        assert response.headers["content-range"] == case.content_range


async def test_a_merge_sets_a_column_left_out_to_its_default(captured_api: httpx.AsyncClient) -> None:
    """With missing=default a merge writes the default over the old value, as Postgres's EXCLUDED row holds it."""
    headers = {**WRITE, "prefer": "resolution=merge-duplicates, missing=default"}
    rows = [{"id": 1}, {"id": 2, "name": "n"}]
    await captured_api.post('/users?on_conflict=id&columns="id","name"', json=rows, headers=headers)
    response = await captured_api.get("/users?order=id")
    assert response.json() == [{"id": 1, "name": "unnamed"}, {"id": 2, "name": "n"}]
