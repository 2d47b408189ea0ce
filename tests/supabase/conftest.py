"""A real PostgreSQL for the tests of this folder: one cluster for all of them, an empty database for each."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.supabase.cluster import SUPERUSER, open_cluster
from tests.supabase.migrations import SUPABASE, migrate, run_file

DATABASE_NUMBERS = count(1)


@pytest.fixture(scope="package")
def postgres_cluster() -> Iterator[Path]:
    """The folder of a running cluster's socket; the cluster ends with the folder's last test.

    Each database that is made there has what Supabase puts beside the tables of a project.
    """
    with open_cluster() as folder:
        with psycopg.connect(f"host={folder} user={SUPERUSER} dbname=template1", autocommit=True) as connection:
            run_file(connection, SUPABASE)
        yield folder


@pytest.fixture
def postgres_database(postgres_cluster: Path) -> str:
    """The conninfo of a new, empty database; it goes with its cluster."""
    return new_database(postgres_cluster)


def new_database(postgres_cluster: Path) -> str:
    """Make an empty database and return its conninfo."""
    name = f"test_{next(DATABASE_NUMBERS)}"
    with psycopg.connect(f"host={postgres_cluster} user={SUPERUSER} dbname=postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return f"host={postgres_cluster} user={SUPERUSER} dbname={name}"


@pytest.fixture
def migrated(postgres_database: str) -> str:
    """The conninfo of a new database with every migration applied."""
    migrate(postgres_database)
    return postgres_database
