"""Several SQL statements at once, in a migration's transaction."""

from alembic import op

__all__ = ["run_script"]


def run_script(sql: str) -> None:
    """Run a script of statements.

    asyncpg prepares what SQLAlchemy executes, and a prepared statement is one statement; its own
    `execute` takes a script.
    """
    connection = op.get_bind().connection.dbapi_connection
    assert connection is not None
    connection.run_async(lambda asyncpg_connection: asyncpg_connection.execute(sql))
