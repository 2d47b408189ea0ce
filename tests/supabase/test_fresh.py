"""The migrations on an empty database: what they make, and that a second run finds nothing to do."""

import psycopg
import pytest

from tests.supabase.migrations import catalog, column_types, migrate, row_versions

TABLES = {
    "users": {"id": "text", "username": "text"},
    "user_id_mapping": {"auth_id": "text", "user_id": "text"},
    "projects": {
        "id": "bigint",
        "user_id": "text",
        "theme": "text",
        "question": "text",
        "hypothesis": "text",
        "updated_at": "timestamp with time zone",
    },
    "memos": {
        "id": "bigint",
        "user_id": "text",
        "project_id": "bigint",
        "title": "text",
        "content": "text",
        "updated_at": "timestamp with time zone",
    },
    "chat_conversations": {
        "id": "uuid",
        "user_id": "text",
        "title": "text",
        "page_id": "text",
        "is_active": "boolean",
        "created_at": "timestamp with time zone",
        "updated_at": "timestamp with time zone",
    },
    "chat_logs": {
        "id": "bigint",
        "user_id": "text",
        "page": "text",
        "sender": "text",
        "message": "text",
        "conversation_id": "uuid",
        "context_data": "jsonb",
        "created_at": "timestamp with time zone",
        "turn_id": "uuid",
    },
}

UNIQUE_KEYS = {
    ("users", "id"),
    ("user_id_mapping", "auth_id"),
    ("projects", "id"),
    ("memos", "id"),
    ("chat_conversations", "id"),
    ("chat_conversations", "user_id, page_id"),
    ("chat_logs", "id"),
    ("chat_logs", "turn_id, sender"),
}

# What PostgREST may embed: table, column, table referred to.
RELATIONSHIPS = {("memos", "project_id", "projects"), ("chat_logs", "conversation_id", "chat_conversations")}


def test_fresh_tables_have_the_documented_columns(migrated: str) -> None:
    """An empty database gets exactly the documented tables, columns and types."""
    with psycopg.connect(migrated) as connection:
        found = column_types(connection)
    assert found == {(table, column): kind for table, columns in TABLES.items() for column, kind in columns.items()}


def test_unique_keys_are_whole(migrated: str) -> None:
    """Every unique key covers all rows of its table, none is partial, and there are no others."""
    with psycopg.connect(migrated) as connection:
        found = connection.execute(
            "select i.indrelid::regclass::text, (select string_agg(a.attname, ', ' order by k.place)"
            " from unnest(i.indkey) with ordinality k (attnum, place)"
            " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum)"
            " from pg_index i join pg_class c on c.oid = i.indexrelid"
            " where c.relnamespace = 'public'::regnamespace and i.indisunique and i.indisvalid and i.indpred is null"
        ).fetchall()
    assert set(found) == UNIQUE_KEYS


def test_relationships_are_validated_foreign_keys(migrated: str) -> None:
    """Both relationships that requests embed are foreign keys, and hold for every row."""
    with psycopg.connect(migrated) as connection:
        found = connection.execute(
            "select k.conrelid::regclass::text, a.attname, k.confrelid::regclass::text from pg_constraint k"
            " join pg_attribute a on a.attrelid = k.conrelid and k.conkey = array[a.attnum]"
            " where k.contype = 'f' and k.convalidated"
        ).fetchall()
    assert set(found) >= RELATIONSHIPS


def test_a_row_of_what_must_be_given_fills_the_rest(migrated: str) -> None:
    """Ids, times and the active flag have defaults, and none of them may be null."""
    with psycopg.connect(migrated) as connection:
        connection.execute("insert into users (id) values ('u')")
        made = connection.execute(
            "insert into chat_conversations (user_id) values ('u')"
            " returning id is not null, is_active, created_at = now(), updated_at = now(), page_id"
        ).fetchone()
        assert made == (True, True, True, True, None)
        with pytest.raises(psycopg.errors.NotNullViolation):
            connection.execute("insert into chat_conversations (user_id, is_active) values ('u', null)")


def test_a_second_run_changes_nothing(migrated: str) -> None:
    """Applying all migrations again leaves the schema as it is and writes no row."""
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("insert into users (id) values ('u')")
        connection.execute("insert into chat_conversations (user_id, page_id) values ('u', 'general'), ('u', null)")
        connection.execute("insert into chat_logs (user_id, sender, message) values ('u', 'user', 'hello')")
        before = catalog(connection), row_versions(connection)
        migrate(migrated)
        assert (catalog(connection), row_versions(connection)) == before
