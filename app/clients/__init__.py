"""Clients: the only files that know a wire format."""
