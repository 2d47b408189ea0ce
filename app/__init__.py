"""nursery-chat: a chat server whose folders are the stages of a turn (see app/chat_turn.py)."""

import sys

# httpx imports a command line of its own wherever rich and click happen to be: 90 ms of CPU and 3 MB for nothing.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # typeshed does not know that None forbids it
