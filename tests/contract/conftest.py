"""One server with default settings for the modules of tests that need no other."""

from tests.server.conftest import server

__all__ = ["server"]
