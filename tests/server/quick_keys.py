"""The real server, but that it asks for keys three times a second, and hardly waits for them.

python -m tests.server.quick_keys serve
"""

from app.clients import jwks
from app.receive.auth import key_source
from tests.server.extended import main

if __name__ == "__main__":
    key_source.REFETCH_S = 0.3
    key_source.FIRST_RETRY_S = 0.1
    key_source.MIN_AGE_S = key_source.LONGEST_AGE_S = 0.3
    jwks.FETCH_S = 0.2
    main()
