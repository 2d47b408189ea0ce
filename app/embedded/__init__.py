"""Embedded: what lets the server run with no account, no key and no network."""
