"""The migrations of this repository, as tests apply them, and what is there to see of a database afterwards."""

from pathlib import Path
from typing import Literal, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.abc import Query

ROOT = Path(__file__).parents[2]
MIGRATIONS = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))
SUPABASE = Path(__file__).with_name("supabase_roles.sql")
LEGACY = {path.stem.removeprefix("legacy_"): path for path in sorted(Path(__file__).parent.glob("legacy_*.sql"))}

Rows = list[tuple[object, ...]]

Defaults = Literal["all", "leftovers", "none"]
ROLES: LiteralString = "anon, authenticated, service_role"
# What Supabase gives its roles of each new table: all of it in projects from before May 2026, until October 2026; since
# then what no request of PostgREST's could use. https://supabase.com/changelog/45329-breaking-change-tables-not-exposed-to-data-and-graphql-api-automatically
DEFAULT_PRIVILEGES: dict[Defaults, tuple[LiteralString, ...]] = {
    "all": ("all on tables", "all on functions", "all on sequences"),
    "leftovers": ("truncate, references, trigger on tables", "update on sequences"),
    "none": (),
}

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
    select proname, pg_get_functiondef(p.oid), proacl::text
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where nspname in ('public', 'nursery_chat') order by 1
"""
POLICIES: LiteralString = "select * from pg_policies order by schemaname, tablename, policyname"
RIGHTS: LiteralString = """
    select relname, relrowsecurity, relforcerowsecurity, relacl::text
    from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm') order by 1
"""
CATALOG = (COLUMNS, INDEXES, CONSTRAINTS, TRIGGERS, FUNCTIONS, POLICIES, RIGHTS)


def run_file(connection: psycopg.Connection, path: Path) -> None:
    """Execute the statements of the file `path` in one transaction."""
    with connection.transaction():
        connection.execute(cast(Query, path.read_text(encoding="utf-8")))


def migrate(conninfo: str) -> None:
    """Apply every migration in order, each in a transaction, as the Supabase CLI does."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for path in MIGRATIONS:
            run_file(connection, path)


def give_by_default(connection: psycopg.Connection, defaults: Defaults) -> None:
    """Have tables, functions and sequences that are made from now on come with these rights, and with no others."""
    for kind in ("tables", "functions", "sequences"):
        template = sql.SQL("alter default privileges in schema public revoke all on {} from {}")
        connection.execute(template.format(sql.SQL(kind), sql.SQL(ROLES)))
    for rights in DEFAULT_PRIVILEGES[defaults]:
        template = sql.SQL("alter default privileges in schema public grant {} to {}")
        connection.execute(template.format(sql.SQL(rights), sql.SQL(ROLES)))


def load_legacy(conninfo: str, name: str, defaults: Defaults = "all") -> None:
    """Fill an empty database with the tables and rows of `legacy_<name>.sql`; tables made later get no rights.

    Args:
        conninfo: of the empty database.
        name: of the deployment.
        defaults: the rights that its tables came with.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        give_by_default(connection, defaults)
        run_file(connection, LEGACY[name])
        give_by_default(connection, "none")


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


def warnings_of(connection: psycopg.Connection) -> list[str]:
    """Return the list to which the server's warnings are added from now on."""
    warnings: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(notice.message_primary or "")

    connection.add_notice_handler(note)
    return warnings
