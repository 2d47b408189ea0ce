"""What the differential tests share."""

import pytest

from app.clients import transport as our_transport
from tests.clients.differential import peers


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have our transport connect to the servers in memory."""
    monkeypatch.setattr(our_transport, "Connection", peers.IN_MEMORY)
