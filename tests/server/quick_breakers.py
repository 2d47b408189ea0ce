"""The real server, but that its breakers try a host again after a second.

python -m tests.server.quick_breakers serve
"""

from functools import partial

from app import bootstrap
from app.bootstrap.upstreams import Breakers
from app.clients.breaker import Breaker
from tests.server.extended import main

OPEN_S = 1.0

if __name__ == "__main__":
    quick = partial(Breakers, model=Breaker("model", open_s=OPEN_S), database=Breaker("database", open_s=OPEN_S))
    bootstrap.Breakers = quick  # type: ignore[misc,assignment]  # the one place that makes them
    main()
