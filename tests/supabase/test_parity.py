"""The embedded SQLite schema and the migrated Postgres schema name the same tables and columns."""

import sqlite3
from contextlib import closing

import psycopg

from tests.supabase.migrations import ROOT, column_types

EMBEDDED = sorted((ROOT / "app" / "embedded" / "schema").glob("*.sql"))


def embedded_columns() -> set[tuple[str, str]]:
    """Return (table, column) of everything that the embedded schema makes."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for path in EMBEDDED:
            connection.executescript(path.read_text(encoding="utf-8"))
        return set(
            connection.execute(
                "select t.name, c.name from sqlite_master t join pragma_table_info(t.name) c"
                " where t.type = 'table' and t.name not like 'sqlite_%'"
            )
        )


def test_embedded_and_postgres_schemas_name_the_same_columns(migrated: str) -> None:
    """Whatever is written for the embedded database finds the same tables and columns in Postgres, and none more."""
    with psycopg.connect(migrated) as connection:
        assert embedded_columns() == set(column_types(connection))
