"""The httpx transport, over real sockets; what its callers see is asked of httpx's own transport too."""
