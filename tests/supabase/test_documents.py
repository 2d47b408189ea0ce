"""SQL that the documents tell their readers to run."""

from typing import cast

import psycopg
import pytest
from psycopg.abc import Query

from tests.readme.documents import BLOCKS

STATEMENTS = {block.text: f"{block.document}:{block.line}" for block in reversed(BLOCKS) if block.language == "sql"}
USER = "insert into users (id, username) values ('17', 'ann') on conflict do nothing"


@pytest.mark.parametrize("statement", [pytest.param(text, id=place) for text, place in STATEMENTS.items()])
def test_it_runs_as_it_stands(migrated: str, statement: str) -> None:
    """On a database with our migrations, in which the user that it names is stored."""
    with psycopg.connect(migrated) as connection:
        connection.execute(USER)
        assert connection.execute(cast(Query, statement)).rowcount == 1
        connection.rollback()
