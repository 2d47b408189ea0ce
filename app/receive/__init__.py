"""Receive: routes, payload parsing and identity."""
