"""A service that is away, or not ours, is named, with what to do about it."""

from sqlalchemy import make_url

from tests.support.commands import Book, Cli, lines


async def test_command_without_servers_names_what_is_missing(alone: Cli, book: Book) -> None:
    ran = await alone("tenant", "list")
    assert ran.code == 3
    assert "DATABASE_URL is not set, and no stack runs in" in ran.err
    assert "`lastmile up`" in ran.err
    ran = await alone("provision", "-", stdin=lines(book.order()))
    assert ran.code == 3
    assert "No Temporal server answers at 127.0.0.1:1" in ran.err
    ran = await alone("migrate")
    assert (ran.code, "DATABASE_OWNER_URL" in ran.err) == (3, True)


async def test_database_that_cannot_be_used_is_explained(alone: Cli, postgres_url: str) -> None:
    url = make_url(postgres_url)
    place = f"{url.host}:{url.port}"
    for bad, words in (
        (url.set(port=1), f"no PostgreSQL answers at {url.host}:1: is it running, and are host and port right?"),
        (url.set(host="nowhere.invalid"), "the host name 'nowhere.invalid' cannot be resolved: check it, or the"),
        (url.set(password="wrong"), f"at {place} refuses the login 'postgres': check the user, the password and"),
        (url.set(database="nowhere"), f"at {place} has no database 'nowhere': check the name, or create the database."),
    ):
        ran = await alone.but(DATABASE_URL=bad.render_as_string(hide_password=False))("tenant", "list")
        assert ran.code == 3
        assert words in ran.err
        assert "Traceback" not in ran.err
        assert "wrong" not in ran.err


async def test_database_without_tables_asks_for_migrate(alone: Cli, postgres_url: str) -> None:
    bare = make_url(postgres_url).set(database="postgres").render_as_string(hide_password=False)
    ran = await alone.but(DATABASE_URL=bare)("tenant", "list")
    assert ran.code == 3
    assert "run `lastmile migrate`" in ran.err


async def test_migrate_of_the_newest_schema_changes_nothing(fresh: Cli) -> None:
    ran = await fresh("migrate")
    assert (ran.code, ran.out) == (0, "The database is at the newest schema already.\n")
