"""Respond: bodies and headers, built from values; nothing here waits."""
