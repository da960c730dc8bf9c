"""What keeps PostgreSQL from being used, in sentences; the words of the driver do not reach a user."""

import socket
import ssl
import traceback
from typing import Any, Final

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lastmile.db.database import PLATFORM_ROLE, TENANT_ROLE
from lastmile.db.dialect import DRIVER_ERRORS

__all__ = ["DATABASE_FAILURES", "describe_failure", "explain", "without_password"]

DATABASE_FAILURES: Final = (OSError, SQLAlchemyError, *DRIVER_ERRORS)
"""What a database call fails with where the database is away, or is not Lastmile's; and by faults of Lastmile's own."""

_UNDEFINED = {"42P01", "42703", "42883"}  # table, column, function
_PERMISSION_DENIED = "42501"

# By SQLSTATE, or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
_SENTENCES = {
    "28": "PostgreSQL{place} refuses the login {user}: check the user, the password and pg_hba.conf.",
    "3D": "PostgreSQL{place} has no database {database}: check the name, or create the database.",
    "53300": "PostgreSQL{place} has no free connection: raise max_connections, or run fewer processes.",
    "53": "PostgreSQL{place} is out of memory, disk space or another resource: see its log.",
    "57014": "PostgreSQL{place} took too long over a query: see its load, and try again.",
    "57": "PostgreSQL{place} is starting or stopping: try again in a moment.",
    "08": "the connection to PostgreSQL{place} was lost: is it running?",
    "25P03": "the connection to PostgreSQL{place} was lost: a transaction stood still for too long.",
    "40001": "another transaction changed the same rows: try again in a moment.",
    # A lock that was waited for too long, a deadlock.
    "55P03": "another transaction holds what this one waits for: try again in a moment, or look for a session of "
    "PostgreSQL{place} that stays open.",
    "40P01": "another transaction holds what this one waits for: try again in a moment.",
}


def without_password(url: str) -> str:
    """Show the URL of a database with its password masked."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=True)


def explain(failure: Exception, url: str | None = None) -> str | None:
    """Say why the database cannot be used; None where the failure is a fault of Lastmile's own.

    With `url`, the sentence names the server, the login and the database.
    """
    original: Any = getattr(failure, "orig", None) or failure
    code = getattr(original, "sqlstate", None) or ""
    said = str(original).partition("\n")[0].rpartition(">: ")[2]
    known = make_url(url) if url else None
    place = f" at {_place(known)}" if known else ""
    user = repr(known.username) if known else "of DATABASE_URL"
    if code in _UNDEFINED or ('role "lastmile_' in said and "does not exist" in said):
        return "it lacks Lastmile's tables and roles: run `lastmile migrate`."
    if code == _PERMISSION_DENIED and "set role" in said:
        return f"the login {user} must be a member of {TENANT_ROLE} and {PLATFORM_ROLE}."
    if code == _PERMISSION_DENIED:
        return f"{said}. Migrations need the login that owns the tables (DATABASE_OWNER_URL), all else DATABASE_URL."
    if sentence := _SENTENCES.get(code) or _SENTENCES.get(code[:2]):
        database = repr(known.database) if known else "of DATABASE_URL"
        return sentence.format(place=place, user=user, database=database)
    if isinstance(original, PoolTimeout):
        return "all database connections of this process are in use: try again in a moment."
    if isinstance(original, OSError):
        return _unreachable(original, known)
    lost = isinstance(failure, DBAPIError) and failure.connection_invalidated
    if lost or isinstance(original, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return _SENTENCES["08"].format(place=place)
    return None


def describe_failure(failure: Exception) -> str | None:
    """Return a description of a failure of the database for operators, or None for any other failure."""
    if not isinstance(failure, DATABASE_FAILURES) or (isinstance(failure, OSError) and not _of_driver(failure)):
        return None
    if words := explain(failure):
        return f"The database failed: {words}"
    original = getattr(failure, "orig", None)
    kind = type(getattr(original, "__cause__", None) or original or failure).__name__
    return f"The database refused a statement of Lastmile ({kind}): this is a fault in Lastmile, please report it."


def _of_driver(failure: OSError) -> bool:
    """Return whether asyncpg raised the failure: the failure itself does not tell whose connection it was."""
    frames = traceback.walk_tb(failure.__traceback__)
    return any(frame.f_globals.get("__name__", "").partition(".")[0] == "asyncpg" for frame, _ in frames)


def _unreachable(failure: OSError, url: URL | None) -> str:
    place = f" at {_place(url)}" if url else ""
    match failure:
        case socket.gaierror():
            host = repr(url.host) if url else "of DATABASE_URL"
            return f"the host name {host} cannot be resolved: check it, or the name server."
        case _ if isinstance(failure, ssl.SSLError) or "SSL" in str(failure):  # the server has no TLS: ConnectionError
            return f"TLS with PostgreSQL{place} failed: check the certificates and sslmode."
        case TimeoutError():
            return f"PostgreSQL{place} does not answer in time: is it running and reachable, and how high is its load?"
        case _:
            return f"no PostgreSQL answers{place}: is it running, and are host and port right?"


def _place(url: URL) -> str:
    host = url.host or str(url.query.get("host") or "localhost")
    return f"[{host}]:{url.port or 5432}" if ":" in host else f"{host}:{url.port or 5432}"
