"""The migrations of this repository, as tests apply them, and what is there to see of a database afterwards."""

from pathlib import Path
from typing import LiteralString, cast

import psycopg
from psycopg.abc import Query

ROOT = Path(__file__).parents[2]
MIGRATIONS = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))
LEGACY = {path.stem.removeprefix("legacy_"): path for path in sorted(Path(__file__).parent.glob("legacy_*.sql"))}

Rows = list[tuple[object, ...]]

TABLES: LiteralString = """
    select oid::regclass::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
"""
COLUMNS: LiteralString = """
    select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           pg_get_expr(d.adbin, d.adrelid), a.attidentity::text
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
    order by c.relname, a.attname
"""
# relfilenode: an index or a table that was built anew has another one.
INDEXES: LiteralString = """
    select c.relname, pg_get_indexdef(i.indexrelid), i.indisunique, i.indisvalid, c.relfilenode::bigint
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where c.relnamespace = 'public'::regnamespace order by c.relname
"""
CONSTRAINTS: LiteralString = """
    select conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
    from pg_constraint where connamespace = 'public'::regnamespace order by 1, 2
"""
TRIGGERS: LiteralString = """
    select tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal order by 1, 2
"""
FUNCTIONS: LiteralString = """
    select proname, pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace order by 1
"""
CATALOG = (COLUMNS, INDEXES, CONSTRAINTS, TRIGGERS, FUNCTIONS)


def run_file(connection: psycopg.Connection, path: Path) -> None:
    """Execute the statements of the file `path` in one transaction."""
    with connection.transaction():
        connection.execute(cast(Query, path.read_text(encoding="utf-8")))


def migrate(conninfo: str) -> None:
    """Apply every migration in order, each in a transaction, as the Supabase CLI does."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for path in MIGRATIONS:
            run_file(connection, path)


def load_legacy(conninfo: str, name: str) -> None:
    """Fill an empty database with the tables and rows of `legacy_<name>.sql`."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        run_file(connection, LEGACY[name])


def catalog(connection: psycopg.Connection) -> list[Rows]:
    """Return everything that defines the schema `public`: equal before and after means that nothing was changed."""
    return [connection.execute(query).fetchall() for query in CATALOG]


def row_versions(connection: psycopg.Connection) -> Rows:
    """Return place and writing transaction of every row: equal before and after means that no row was written."""
    tables = connection.execute(TABLES).fetchall()
    union = " union all ".join(f"select '{name}', ctid::text, xmin::text from public.{name}" for (name,) in tables)
    return connection.execute(cast(Query, f"{union} order by 1, 2")).fetchall()


def column_types(connection: psycopg.Connection) -> dict[tuple[str, str], str]:
    """Return the type of every column of schema `public`, by table and column."""
    return {(str(table), str(column)): str(kind) for table, column, kind, *_ in connection.execute(COLUMNS)}
