"""What the server needs of a project's tables, and which migration gives it. A table; `database` asks for its rows.

`tests/ops/doctor/test_needs.py` finds that our client sends nothing that is not here, and that the files have it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

FOLDER = "supabase/migrations"
TABLES_MADE = "20261122000001_tables.sql"
COLUMNS_ADDED = "20261122000002_missing_columns.sql"
PAGES_UNIQUE = "20261122000003_one_conversation_per_page.sql"
TURNS_UNIQUE = "20261122000004_turn_keys.sql"
ROWS_SECURED = "20261122000011_row_level_security.sql"
RIGHTS_GIVEN = "20261122000012_rights.sql"

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "users": ("id", "username"),
    "user_id_mapping": ("auth_id", "user_id"),
    "projects": ("id", "user_id", "theme", "question", "hypothesis", "updated_at"),
    "memos": ("id", "user_id", "project_id"),
    "chat_conversations": ("id", "user_id", "title", "page_id", "is_active", "created_at", "updated_at"),
    "chat_logs": (
        "id", "user_id", "page", "sender", "message", "conversation_id", "context_data", "created_at", "turn_id",
    ),
}  # fmt: skip
"""Table to the columns that are read or written."""

_MADE_WITH_THE_TABLE = {("users", "id"), ("projects", "id"), ("memos", "id"), ("chat_conversations", "id")} | {
    ("chat_logs", name) for name in ("id", "sender", "message")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueKey:
    """A key that saves rely on: without it they fail."""

    table: str
    columns: tuple[str, ...]
    migration: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A foreign key by which one table is read with another."""

    table: str
    other: str
    migration: str = TURNS_UNIQUE


KEYS = (
    UniqueKey(table="chat_logs", columns=("turn_id", "sender"), migration=TURNS_UNIQUE),
    UniqueKey(table="chat_conversations", columns=("user_id", "page_id"), migration=PAGES_UNIQUE),
    UniqueKey(table="users", columns=("id",), migration=TABLES_MADE),
)
RELATIONS = (
    Relation(table="chat_conversations", other="chat_logs"),
    Relation(table="projects", other="memos"),
)


def migration_of(table: str, column: str) -> str:
    """Return the file that adds a column to a table that lacks it."""
    made = table == "user_id_mapping" or (table, column) in _MADE_WITH_THE_TABLE
    return TABLES_MADE if made else COLUMNS_ADDED
