"""Embedded Supabase: PostgREST's dialect over a SQLite file, as an ASGI app.

It answers the requests that our own client sends, and plain reads and writes besides; whatever it does not know is
refused with PostgREST's own kind of error, never answered wrongly. Error codes and texts follow PostgREST 13.

    request.py      the values that everything below hands on
    scanner.py selection.py filters.py preferences.py parse.py     query string and headers -> Request (pure)
    column_types.py body.py                                         texts and JSON -> stored values (pure)
    tables.py patterns.py reading.py                                Request + catalogue -> SQL (pure)
    rows.py writing.py violations.py answer.py replies.py           SQL -> rows -> answer, on one connection
    migrations.py store.py app.py                                   the file, its threads, ASGI

Text is compared and sorted by code point, as in a Postgres database whose collation is "C".
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from app.clients.in_process import AsgiApp
from app.embedded.postgrest.app import EmbeddedSupabase
from app.embedded.postgrest.errors import EmbeddedDatabaseError
from app.embedded.postgrest.store import open_store

__all__ = ["SHIPPED_SCHEMA", "EmbeddedDatabaseError", "open_embedded_supabase"]

SHIPPED_SCHEMA: Final = tuple(sorted((Path(__file__).parent.parent / "schema").glob("*.sql")))


@asynccontextmanager
async def open_embedded_supabase(path: Path, *, schema: Sequence[Path] = SHIPPED_SCHEMA) -> AsyncIterator[AsgiApp]:
    """Open the database file at `path`, made and migrated when needed, and yield the app that serves it.

    Args:
        path: the SQLite file; its folder is made when missing.
        schema: SQL files in the order in which they are applied, each once in the life of the file.

    Raises:
        EmbeddedDatabaseError: the file or folder cannot be opened or written, or is not such a database; one sentence.
    """
    async with open_store(path, schema) as store:
        yield EmbeddedSupabase(store)
