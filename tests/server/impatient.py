"""The server with less patience: a sign of life after 0.1 s of silence, 0.1 s for what is left after the drain.

python -m tests.server.impatient serve
"""

from app import bootstrap
from app.receive import streaming
from tests.server import extended

if __name__ == "__main__":
    streaming.PING_S = 0.1
    bootstrap.LAST_SAVES_S = 0.1
    extended.main()
