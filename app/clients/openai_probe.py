"""The list of models of an OpenAI-compatible host, for a doctor; `openai.py` has the wire's sources."""

import json
from dataclasses import replace
from typing import Any

import httpx

from app.clients import USER_AGENT, basic_authorization, below
from app.clients.probe_request import send
from app.clients.probing import ModelList


class OpenAIProbe:
    """`ModelProbe` over httpx.

    Args:
        transport: carries the requests.
        base_url: of the API, with its version.
        key: the API key; empty when the server wants none.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, base_url: str, key: str) -> None:
        self._transport = transport
        self._url = below(base_url, "/models")
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
            **basic_authorization(self._url),
            **({"authorization": f"Bearer {key}"} if key else {}),
        }

    async def models(self) -> ModelList:
        """Ask for the list; what is none says only that there is none."""
        sent = await send(self._transport, httpx.Request("GET", self._url, headers=self._headers))
        if not sent.answer.good:
            code = sent.answer.code or f"http_{sent.answer.status}"
            return ModelList(answer=replace(sent.answer, code=code))
        try:
            names = _names(json.loads(sent.body))
        except (ValueError, RecursionError, TypeError, KeyError):
            return ModelList(answer=sent.answer)
        return ModelList(answer=replace(sent.answer, items=len(names)), names=names)


def _names(document: Any) -> frozenset[str]:
    return frozenset(str(model["id"]) for model in document["data"])
