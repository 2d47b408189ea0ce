"""Ops: what the people who run the server look at."""
