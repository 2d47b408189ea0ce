"""The same bytes to our transport and to httpx's own: what a caller sees must be the same, but for a table of rows."""
