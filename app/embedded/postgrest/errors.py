"""What the dialect refuses: PostgREST's and Postgres's own codes, each with the HTTP status PostgREST gives it."""

from typing import Final

# Exact codes first, then the longest prefix; whatever is in neither table is the caller's fault.
# Source: PostgREST's reference, "Errors" (the PGRST groups and the status of each SQLSTATE class).
STATUS_OF_CODE: Final = {
    "PGRST000": 503,
    "PGRST003": 504,
    "PGRST103": 416,
    "PGRST106": 406,
    "PGRST107": 406,
    "PGRST116": 406,
    "PGRST117": 405,
    "PGRST125": 404,
    "PGRST201": 300,
    "PGRST202": 404,
    "PGRST205": 404,
    "21000": 500,
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42883": 404,
}
STATUS_OF_CLASS: Final = {"53": 503, "54": 500, "58": 500, "XX": 500}
BLAME_THE_CALLER: Final = 400

# Postgres's SQLSTATE for what SQLite reports about its file, by SQLite's error name without the extension.
CODE_OF_SQLITE_ERROR: Final = {
    "SQLITE_BUSY": "PGRST003",
    "SQLITE_LOCKED": "PGRST003",
    "SQLITE_FULL": "53100",
    "SQLITE_IOERR": "58030",
    "SQLITE_READONLY": "25006",
    "SQLITE_CORRUPT": "XX001",
    "SQLITE_NOTADB": "XX001",
    "SQLITE_TOOBIG": "54000",
}
INTERNAL_ERROR: Final = "XX000"


class EmbeddedDatabaseError(Exception):
    """The database file cannot be opened, written or understood; the text is one sentence to show at start-up."""


class DialectError(Exception):
    """A request that is refused, as PostgREST would say it.

    Args:
        code: PostgREST's `PGRSTnnn` or a SQLSTATE.
        message: one line; what `message` of the body says.
        details: what `details` says, or None.
        hint: what `hint` says, or None.
        status: given only where one code has two statuses.
    """

    def __init__(
        self, code: str, message: str, *, details: str | None = None, hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.details = details
        self.hint = hint
        self.status = status or status_of(code)

    def body(self) -> dict[str, str | None]:
        """Return the JSON body of the answer."""
        return {"code": self.code, "details": self.details, "hint": self.hint, "message": self.message}


def status_of(code: str) -> int:
    """Return the HTTP status that goes with a PostgREST code or a SQLSTATE."""
    return STATUS_OF_CODE.get(code) or STATUS_OF_CLASS.get(code[:2], BLAME_THE_CALLER)


def unsupported(what: str) -> DialectError:
    """Return the refusal of what PostgREST knows and this dialect does not; `what` ends in its verb."""
    return DialectError("PGRST127", "Feature not implemented", details=f"{what} not supported by the embedded database")


def unknown_column(table: str, column: str) -> DialectError:
    """Return the refusal of a read, filter or order by a column that `table` has not."""
    return DialectError("42703", f"column {table}.{column} does not exist")
