"""One server with default settings for each module of tests that needs no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import ServerProcess, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data")) as process:
        yield process


@pytest.fixture(scope="module")
def data_dir(server: ServerProcess) -> Path:
    return server.data_dir
