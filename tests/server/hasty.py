"""The server, sent SIGINT by itself in the moment in which it takes its first signal.

python -m tests.server.hasty serve
"""

import logging
import signal

from tests.server import extended


class Hasty(logging.Handler):
    """Sends the signal when the log says that the drain begins."""

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one line of the log."""
        if record.getMessage() == "server.draining":
            signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    logging.getLogger("app.edge.serve").addHandler(Hasty())
    extended.main()
