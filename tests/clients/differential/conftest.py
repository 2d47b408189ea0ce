"""What the differential tests share."""

import pytest

from app.clients import transport as our_transport
from tests.clients.differential import peers


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have our transport connect to the servers in memory, and look at every connection before it is used again.

    httpx's always looks; ours only after `ASK_AFTER_S`, which is longer than these requests are apart.
    """
    monkeypatch.setattr(our_transport, "_Connection", peers.IN_MEMORY)
    monkeypatch.setattr(our_transport, "ASK_AFTER_S", 0.0)
