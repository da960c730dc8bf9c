"""What keeps PostgreSQL from being used, in sentences; the words of the driver do not reach a user."""

import socket
import ssl
from typing import Any, Final

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lastmile.db.database import PLATFORM_ROLE, TENANT_ROLE

__all__ = ["DATABASE_FAILURES", "explain", "without_password"]

DATABASE_FAILURES: Final = (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a database call fails with where the database is away, or is not Lastmile's; and by faults of Lastmile's own."""

_UNDEFINED = {"42P01", "42703", "42883"}  # table, column, function
_PERMISSION_DENIED = "42501"
_TAKEN = {"55P03", "40P01"}  # a lock that was waited for too long, a deadlock

# By SQLSTATE, or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
_SENTENCES = {
    "28": "PostgreSQL at {place} refuses the login {user}: check the user, the password and pg_hba.conf.",
    "3D": "PostgreSQL at {place} has no database {database}: check the name, or create the database.",
    "53300": "PostgreSQL at {place} has no free connection: raise max_connections, or run fewer processes.",
    "53": "PostgreSQL at {place} is out of memory, disk space or another resource: see its log.",
    "57014": "PostgreSQL at {place} took too long over a query: see its load, and try again.",
    "57": "PostgreSQL at {place} is starting or stopping: try again in a moment.",
    "08": "the connection to PostgreSQL at {place} was lost: is it running?",
}


def without_password(url: str) -> str:
    """Show the URL of a database with its password masked."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=True)


def explain(failure: Exception, url: str) -> str | None:
    """Say why the database of this URL cannot be used; None where the failure is a fault of Lastmile's own."""
    original: Any = getattr(failure, "orig", None) or failure
    code = getattr(original, "sqlstate", None) or ""
    said = str(original).partition("\n")[0].rpartition(">: ")[2]
    known = make_url(url)
    if code in _UNDEFINED or ('role "lastmile_' in said and "does not exist" in said):
        return "it lacks Lastmile's tables and roles: run `lastmile migrate`."
    if code == _PERMISSION_DENIED and "set role" in said:
        return f"the login {known.username!r} must be a member of {TENANT_ROLE} and {PLATFORM_ROLE}."
    if code == _PERMISSION_DENIED:
        return f"{said}. Migrations need the login that owns the tables (DATABASE_OWNER_URL), all else DATABASE_URL."
    if code in _TAKEN:
        return "running orders hold what this command waits for: try again in a moment."
    if sentence := _SENTENCES.get(code) or _SENTENCES.get(code[:2]):
        return sentence.format(place=_place(known), user=repr(known.username), database=repr(known.database))
    if isinstance(original, PoolTimeout):
        return "all database connections of this process are in use: try again in a moment."
    if isinstance(original, OSError):
        return _unreachable(original, known)
    lost = isinstance(failure, DBAPIError) and failure.connection_invalidated
    if lost or isinstance(original, asyncpg.InterfaceError):
        return _SENTENCES["08"].format(place=_place(known))
    return None


def _unreachable(failure: OSError, url: URL) -> str:
    match failure:
        case socket.gaierror():
            return f"the host name {url.host!r} cannot be resolved: check it, or the name server."
        case _ if isinstance(failure, ssl.SSLError) or "SSL" in str(failure):  # the server has no TLS: ConnectionError
            return f"TLS with PostgreSQL at {_place(url)} failed: check the certificates and sslmode."
        case _:
            return f"no PostgreSQL answers at {_place(url)}: is it running, and are host and port right?"


def _place(url: URL) -> str:
    host = url.host or str(url.query.get("host") or "localhost")
    return f"[{host}]:{url.port or 5432}" if ":" in host else f"{host}:{url.port or 5432}"
