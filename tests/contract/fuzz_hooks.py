"""What schemathesis needs to know of this server; `test_fuzz` runs it with this file as its hooks."""

import itertools
import os
import re
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

from tests.contract.judge import Judge, committed
from tests.server.process import AT_ONCE

TOKENS = {"userToken": os.environ["FUZZ_USER_TOKEN"], "opsToken": os.environ["FUZZ_OPS_TOKEN"]}
OPS = r"^/(ops/|metrics)"
OPEN = r"^/(docs|console|openapi|healthz|readyz)"
JUDGE = Judge(committed())
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DAY = "02-(0[1-9]|1[0-9]|2[0-8])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
_MOMENT = f"(19|20)[0-9]{{2}}-({_DAY})T{_TIME}"
_PLACES = [{"format": "date-time"}, {"pattern": f"^{_MOMENT}~{_UUID}$"}]
_MESSAGES = [
    {"pattern": f"^{_MOMENT}~[0-9]{{1,18}}$"},
    {"format": "uuid"},
    {"pattern": "^[0-9]{1,18}$"},
    {"pattern": f"^{_UUID}:(user|assistant)$"},
]
KEY, KEY_HEADER = re.compile("[!-~]{1,255}"), "idempotency-key"
NUMBERS = itertools.count()
BEFORE = {"BeforeMessage": [*_PLACES, *_MESSAGES], "BeforeConversation": _PLACES}
"""What `before` takes: the contract says that it is a text, since nobody makes one up; schemathesis does."""


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Say of `before` what it takes, and of streams what schemathesis knows for them; parts are judged below."""
    for name, kinds in BEFORE.items():
        raw_schema["components"]["parameters"][name]["schema"] = {"type": "string", "anyOf": kinds}
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                stream = response.get("content", {}).get("text/event-stream")
                if stream:
                    stream["schema"] = {"type": "object"}  # of an event, not of the text


@schemathesis.hook
def before_call(context: HookContext, case: "Case[Any]", kwargs: dict[str, Any]) -> None:
    """Have each key be used once, and the scripted model answer without its pace; what is wrong stays wrong."""
    key = case.headers.get(KEY_HEADER)
    if isinstance(key, str) and KEY.fullmatch(bare := key.strip(" \t")):
        own = f"-{next(NUMBERS)}" if bare == key else " -"  # blanks at its ends are not sent: one inside is as wrong
        case.headers[KEY_HEADER] = bare[: 255 - len(own)] + own  # with another message the same key would be wrong
    body: Any = case.body
    if not isinstance(body, dict):
        return
    if AT_ONCE in str(body):
        return  # an example, which comes again as the last call left it
    if isinstance(body.get("message"), str) and body["message"].strip():
        body["message"] += f" {AT_ONCE}"
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        _rename(message, body)
        parts = message.get("parts") if isinstance(message, dict) else None
        if isinstance(parts, list) and any(isinstance(part, dict) and part.get("type") == "text" for part in parts):
            parts.append({"type": "text", "text": AT_ONCE})


def _rename(message: Any, body: dict[str, Any]) -> None:
    """Give a message of the SDK an id of its own, which is a key within its chat, where it has one."""
    id_ = message.get("id") if isinstance(message, dict) else None
    if isinstance(id_, str) and 0 < len(id_) < 200:
        message["id"] = f"{id_}-{next(NUMBERS)}"
        if body.get("messageId") == id_:
            body["messageId"] = message["id"]


@schemathesis.check
def parts_are_described(context: CheckContext, response: Response, case: "Case[Any]") -> None:
    """Every part of a stream is one that the contract has."""
    if response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        wrong = JUDGE.stream_faults({"$ref": "#/components/schemas/StreamPart"}, response.text)
        assert not wrong, wrong


class _Bearer:
    scheme = ""

    def get(self, case: "Case[Any]", context: Any) -> str:
        return TOKENS[self.scheme]

    def set(self, case: "Case[Any]", data: str, context: Any) -> None:
        case.headers["authorization"] = f"Bearer {data}"


@schemathesis.auth().apply_to(path_regex=OPS)
class OpsToken(_Bearer):
    """Of those who run the server."""

    scheme = "opsToken"


@schemathesis.auth().skip_for(path_regex=OPS).skip_for(path_regex=OPEN)
class UserToken(_Bearer):
    """Of a front end's user."""

    scheme = "userToken"
