"""`python -m app limiter`: a client of `/ops/limiter` for people in a terminal. Nothing of it runs in the server."""
