"""Fetch: the conversation with its newest history, the project context, the prompt."""
