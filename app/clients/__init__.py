"""Clients: the only files that know a wire format."""

USER_AGENT = "nursery-chat/0.1"
"""Our own: Supabase refuses a secret key that comes with a browser's."""
