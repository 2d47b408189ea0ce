"""The real server with an outbox that one turn fills.

python -m tests.server.small_outbox serve
"""

from app.bootstrap import outbox
from app.save.outbox_values import OutboxLimits
from tests.server import extended


def main() -> None:
    """Serve."""
    outbox.LIMITS = OutboxLimits(max_entries=2)
    extended.main()


if __name__ == "__main__":
    main()
