"""A project's database: whether it answers, takes our key, and has the tables, columns and keys that we need."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.clients.probing import DatabaseProbe, HostAnswer, Reader
from app.ops.doctor.finding import Finding, fail, ok, warn
from app.ops.doctor.needs import COLUMNS, FOLDER, KEYS, RELATIONS, RIGHTS_GIVEN, TABLES_MADE, UniqueKey, migration_of

NO_COLUMN, NO_KEY, NO_RIGHT, NO_RELATION = "42703", "42P10", "42501", "PGRST200"
NO_TABLE = frozenset({"42P01", "PGRST205"})
DATABASE_AWAY = frozenset({"PGRST000", "PGRST001", "PGRST002"})
POOL_IS_FULL = "PGRST003"
KEY_STATUSES = frozenset({401, 403})
RELOAD = "then have PostgREST look again: notify pgrst, 'reload schema'"
RAISE_POOL = "raise PostgREST's db-pool (Supabase: Settings, Data API), or lower SUPABASE_MAX_CONNECTIONS"
CONNECT = "check SUPABASE_URL, DNS and the way there; a paused project does not answer either"


@dataclass(frozen=True, slots=True)
class DatabaseChecks:
    """What is asked of the database as the server asks it."""

    probe: DatabaseProbe
    server: Reader

    async def reach(self) -> list[Finding]:
        """Ask for next to nothing: an answer of any kind, other than that nobody is there, will do."""
        answer = await self.probe.columns(self.server, "users", ("id",))
        return [reached(answer), *key_taken(answer)]

    async def schema(self) -> list[Finding]:
        """Ask for every column of every table, and for the tables that are read together."""
        found = [finding for table, names in COLUMNS.items() for finding in await self._table(table, names)]
        for each in RELATIONS:
            answer = await self.probe.related(self.server, each.table, each.other)
            if answer.code == NO_RELATION:
                said = f"{each.other} has no foreign key to {each.table}, so that they cannot be read together"
                found.append(fail("database.schema", said, f"apply {FOLDER}/{each.migration}, {RELOAD}"))
        if found:
            return found
        columns = sum(map(len, COLUMNS.values()))
        return [ok("database.schema", f"{len(COLUMNS)} tables with the {columns} columns that are read or written")]

    async def keys(self) -> list[Finding]:
        """Insert nothing under each key that saves rely on."""
        found = [await self._key(key) for key in KEYS]
        wrong = [finding for finding in found if finding is not None]
        names = "; ".join(f"{key.table} ({', '.join(key.columns)})" for key in KEYS)
        return wrong or [ok("database.keys", f"unique: {names}; triggers and indexes cannot be seen from outside")]

    async def _table(self, table: str, names: Sequence[str]) -> list[Finding]:
        answer = await self.probe.columns(self.server, table, names)
        if answer.code != NO_COLUMN:
            return [] if answer.good else [_of_table(table, answer)]
        missing = [name for name in names if (await self._column(table, name)).code == NO_COLUMN]
        files = ", ".join(sorted({f"{FOLDER}/{migration_of(table, name)}" for name in missing}))
        said = f"{table} lacks {', '.join(missing)}"
        return [fail("database.schema", said, f"apply {files} and what comes after it, {RELOAD}")]

    async def _column(self, table: str, name: str) -> HostAnswer:
        return await self.probe.columns(self.server, table, (name,))

    async def _key(self, key: UniqueKey) -> Finding | None:
        answer = await self.probe.unique(self.server, key.table, key.columns)
        if answer.good or answer.code == NO_COLUMN or answer.code in NO_TABLE:  # which the schema's check tells
            return None
        what = f"{key.table} ({', '.join(key.columns)})"
        if answer.code == NO_KEY:
            return fail("database.keys", f"{what} is not unique, so that saves fail", f"apply {FOLDER}/{key.migration}")
        if answer.code == NO_RIGHT:
            return fail("database.keys", f"the key may not insert into {key.table}", f"apply {FOLDER}/{RIGHTS_GIVEN}")
        return warn("database.keys", f"{what} could not be looked at ({answer.word})", "run the doctor again")


def reached(answer: HostAnswer) -> Finding:
    """Return whether there is a PostgREST with a database behind it."""
    check = "database.reach"
    if answer.status is None and answer.code != "not_json":
        return fail(check, f"{answer.host} does not answer ({answer.code})", CONNECT)
    if answer.code == "not_json" or (answer.status == 404 and answer.code not in NO_TABLE):
        said = f"{answer.host} answers, but not as PostgREST does ({answer.word})"
        return fail(check, said, "set SUPABASE_URL to the project's address, without a path")
    if answer.code == POOL_IS_FULL:
        return warn(check, f"{answer.host} finds PostgREST's pool full ({answer.status} {answer.word})", RAISE_POOL)
    if answer.status == 429:
        said = f"{answer.host} answers 429, that it is asked too often, and may not have looked at the key"
        return warn(check, said, "look at the gateway's limits, and run the doctor again")
    if answer.code in DATABASE_AWAY or (answer.status or 0) >= 500:
        said = f"{answer.host} answers, but not its database ({answer.word})"
        return fail(check, said, "look at the project's status page and PostgREST's log")
    return ok(check, f"{answer.host} answers in {answer.seconds * 1000:.0f} ms")


def key_taken(answer: HostAnswer) -> list[Finding]:
    """Return whether the key opens the tables; nothing where that cannot be said."""
    if answer.status in KEY_STATUSES and answer.code != NO_RIGHT:
        said = f"the host refuses SUPABASE_KEY ({answer.word})"
        return [fail("database.key", said, "set the project's secret key, or the legacy service_role key")]
    if answer.code == NO_RIGHT:
        said = "SUPABASE_KEY is taken, but may not read public.users"
        return [fail("database.key", said, f"set the secret key, or apply {FOLDER}/{RIGHTS_GIVEN}")]
    return [ok("database.key", "SUPABASE_KEY is taken")] if answer.good or answer.code in NO_TABLE else []


def _of_table(table: str, answer: HostAnswer) -> Finding:
    check = "database.schema"
    if answer.code in NO_TABLE:
        return fail(check, f"there is no table {table}", f"apply {FOLDER}/{TABLES_MADE} and what follows, {RELOAD}")
    if answer.code == NO_RIGHT:
        return fail(check, f"the key may not read {table}", f"apply {FOLDER}/{RIGHTS_GIVEN}")
    return fail(check, f"{table} could not be looked at ({answer.word})", "run the doctor again")
