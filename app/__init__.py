"""nursery-chat: a chat server whose folders are the stages of a turn (see app/chat_turn.py)."""
