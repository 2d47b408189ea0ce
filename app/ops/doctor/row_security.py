"""Row-level security, from outside: whoever comes without the server's key must see no row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from app.clients.probing import DatabaseProbe, HostAnswer, Reader
from app.ops.doctor.database import NO_COLUMN, NO_RIGHT, NO_TABLE
from app.ops.doctor.finding import Finding, fail, ok, skip, warn
from app.ops.doctor.needs import COLUMNS, FOLDER, ROWS_SECURED

CHECK = "database.rls"
GATE_STATUSES = frozenset({401, 403})
Seen = Literal["rows", "no rows", "refused", "at the gate", "missing", "unknown"]
WHEN_FILLED = "run the doctor again when they have rows"
LOOK_AS_FRONT_ENDS = "give --anon-key, the key that front ends have, to see what it opens"


@dataclass(frozen=True, slots=True)
class RowSecurityCheck:
    """Reads one row of each table as each of `strangers`, and as the server to know whether there is one to see."""

    probe: DatabaseProbe
    server: Reader
    strangers: Sequence[Reader]

    async def look(self) -> list[Finding]:
        """Return what each stranger sees."""
        filled = [table for table in COLUMNS if (await self._read(self.server, table)).items]
        return [await self._stranger(reader, filled) for reader in self.strangers]

    async def _stranger(self, reader: Reader, filled: Sequence[str]) -> Finding:
        answers = {table: await self._read(reader, table) for table in COLUMNS}
        return judge(reader.name, {table: seen(answer) for table, answer in answers.items()}, filled)

    async def _read(self, reader: Reader, table: str) -> HostAnswer:
        return await self.probe.first(reader, table, COLUMNS[table][0])


def seen(answer: HostAnswer) -> Seen:
    """Return what an answer lets its reader see."""
    if answer.good:
        return "rows" if answer.items else "no rows"
    if answer.code == NO_RIGHT:
        return "refused"
    if answer.code == NO_COLUMN or answer.code in NO_TABLE:
        return "missing"
    return "at the gate" if answer.status in GATE_STATUSES else "unknown"


def judge(reader: str, tables: Mapping[str, Seen], filled: Sequence[str]) -> Finding:
    """Return what a reader's view says; a table without rows proves nothing, one that is missing is the schema's."""
    by = {what: [table for table, each in tables.items() if each == what] for what in get_args(Seen)}
    if by["rows"]:
        said = f"{reader} reads rows of {', '.join(by['rows'])}, which are other people's"
        return fail(CHECK, said, f"apply {FOLDER}/{ROWS_SECURED} and what follows, and look at other policies")
    if by["unknown"]:
        return warn(CHECK, f"{reader}: no clear answer for {', '.join(by['unknown'])}", "run the doctor again")
    empty = [table for table in by["no rows"] if table not in filled]
    proven = len(by["refused"]) + len(by["no rows"]) - len(empty)
    if not proven and by["at the gate"]:
        return skip(CHECK, f"{reader} is refused at the gate, before any table", _todo(reader))
    if not proven:
        return skip(CHECK, f"{reader} reads no row, where there is none to read: nothing is proven", WHEN_FILLED)
    said = f"{reader} reads no row of {proven} tables"
    if empty:
        return warn(CHECK, f"{said}; empty, so that nothing is proven: {', '.join(empty)}", WHEN_FILLED)
    missing = f"; not there: {', '.join(by['missing'])}" if by["missing"] else ""
    return ok(CHECK, f"{said}{missing}")


def _todo(reader: str) -> str:
    return LOOK_AS_FRONT_ENDS if reader == NOBODY else "a project with keys of its own takes no such token"


NOBODY = "who has no key"
