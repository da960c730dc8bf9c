"""The embedded stack: every server that an order needs, on the loopback address, with its state in one directory."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn, Protocol, Self, TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError
from temporalio.envconfig import ClientConfig

from ipam.netbox import NetBox
from ipam.netbox.requirements import check, set_up
from lastmile.db.migrate import PostgresTooOldError, UnknownSchemaError, upgrade
from lastmile.devstack.api_token import ensure_api_token
from lastmile.devstack.freeradius import FreeRadius, FreeRadiusMissingError, find_freeradius
from lastmile.devstack.freeradius_nas import FreeRadiusNas
from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.lastmile_process import Api, Worker
from lastmile.devstack.lock import stack_lock
from lastmile.devstack.logins import make_login
from lastmile.devstack.nas import ACK, ScriptedNas
from lastmile.devstack.netbox.server_process import NetBoxStandIn
from lastmile.devstack.ports import HOST, Ports
from lastmile.devstack.postgres import EmbeddedPostgres
from lastmile.devstack.prometheus import Prometheus, PrometheusMissingError
from lastmile.devstack.secret import ensure_secret, secret_file, write_private
from lastmile.devstack.server import ServerFailedError, ServerProcess
from lastmile.devstack.temporal import DevTemporal
from lastmile.devstack.temporal_program import find_temporal
from lastmile.devstack.voltha import VolthaServer
from lastmile.radius.dynauth import Nas
from lastmile.settings import STACK_FILE, Settings

__all__ = ["Stack"]


_WORKER_GROUPS = ("lastmile_app", "lastmile_platform")
_RADIUS_GROUP = "lastmile_radius"
SCRAPE_SECONDS = 0.5
"""Short, since the events of a demo last only seconds."""


class _Server(Protocol):
    process: ServerProcess

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...


_S = TypeVar("_S", bound=_Server)


class Stack:
    """All servers that Lastmile needs, a worker and the API of its own, and Prometheus. Run it by `async with`.

    `settings.database_url`, `settings.netbox_url` and the SDK's configuration of Temporal replace the stack's own
    server. The settings must come from the environment, not from the file of another stack. `say` receives a sentence
    about each slow or missing part. `before_worker` prepares the database, once the other servers run.
    """

    acs: GenieAcsServer
    """The stand-in for an ACS. No CPE has informed yet, and `lastmile controller` has not added the ACS."""
    olt: VolthaServer
    """The stand-in for VOLTHA's core, with one OLT. No ONU is connected yet, and no controller is added."""

    nas: Nas
    """The NAS for Disconnect-Requests and CoA-Requests. The caller adds its row to the table `nas`."""
    temporal_ui: str | None = None
    """The URL of Temporal's Web UI; None if the stack does not run Temporal."""
    radius: FreeRadius | None = None
    """None if FreeRADIUS is not installed."""
    netbox: NetBoxStandIn | None = None
    """None if the settings name a NetBox."""
    prometheus: Prometheus | None = None
    """None if Prometheus is not installed."""
    api_token: Path | None = None
    """The file of a token of the API; None if the settings name a database."""

    def __init__(
        self,
        state_dir: Path,
        settings: Settings,
        *,
        say: Callable[[str], None] = print,
        before_worker: Callable[["Stack"], Awaitable[None]] | None = None,
    ) -> None:
        self.state_dir = state_dir.absolute()
        self.environment = {"LASTMILE_STATE_DIR": str(self.state_dir)}
        """The environment variables of the clients and workers of this stack."""
        self._settings = settings
        self._ports = Ports(self.state_dir)
        self._file = self.state_dir / STACK_FILE
        self._say = say
        self._before_worker = before_worker
        self._running: list[ServerProcess] = []

    async def __aenter__(self) -> Self:
        """Start all servers, or none.

        Raises:
            StackRunningError, PortInUseError, ServerFailedError, TemporalMissingError: with a message for the user.
        """
        self.state_dir.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as starting:
            await starting.enter_async_context(stack_lock(self.state_dir))
            self._file.unlink(missing_ok=True)  # the file of a killed stack
            self._exit = starting
            self._place_worker()
            self._place_api()
            # Prometheus is first, since it scrapes only five seconds after its start.
            await _together(
                self._start_prometheus(), self._start_temporal(), self._start_database(), self._start_netbox()
            )
            await self._start_access_network()
            if self._before_worker:
                await self._before_worker(self)
            await _together(self._start_worker(), self._start_api())
            self._publish()
            self._exit = starting.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def watch(self) -> NoReturn:
        """Wait until a server ends unexpectedly, and raise its `ServerFailedError`."""
        ends = {asyncio.create_task(server.ended()): server for server in self._running}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        raise ends[done.pop()].failure()

    @property
    def api_url(self) -> str:
        """Return the address of the API."""
        return f"http://{HOST}:{self._api_port}"

    @property
    def addresses(self) -> dict[str, str]:
        """Return the address of each server by name, for output."""
        shown = {"Temporal UI": self.temporal_ui} if self.temporal_ui else {}
        shown["Temporal"] = self._temporal_address
        shown["PostgreSQL"] = make_url(self.environment["DATABASE_URL"]).render_as_string(hide_password=True)
        if self.radius:
            shown["RADIUS"] = f"{HOST}:{self.radius.auth_port} (accounting {self.radius.acct_port})"
        shown["NAS"] = f"{self.nas.address}:{self.nas.port} (Disconnect and CoA)"
        if self.netbox:
            shown["NetBox"] = f"{self.netbox.url}/api/ (a stand-in)"
        shown["OLT controller"] = f"{self.olt.url} (a stand-in for VOLTHA)"
        shown["ACS"] = f"{self.acs.url} (a stand-in for GenieACS)"
        shown["API"] = f"{self.api_url}/docs"
        if self.api_token:
            shown["API token"] = f"in {self.api_token}"
        worker = f"http://{HOST}:{self._worker_port}"
        shown["Worker"] = f"{worker}/healthz"
        shown["Metrics"] = f"{worker}/metrics"
        if self.prometheus:
            shown["Prometheus"] = self.prometheus.url
        shown["State and logs"] = str(self.state_dir)
        return shown

    async def _start_temporal(self) -> None:
        configured = ClientConfig.load_client_connect_config().get("target_host")
        if configured:
            self._temporal_address = configured
            return
        program = await find_temporal(self._say)
        temporal = await self._run(
            DevTemporal(self.state_dir, program=program, database=self.state_dir / "temporal.db")
        )
        self._temporal_address = self.environment["TEMPORAL_ADDRESS"] = temporal.address
        self.temporal_ui = temporal.ui_url

    async def _start_database(self) -> None:
        """Start the database, and the servers that need only the database."""
        if self._settings.database_url:
            url = str(self._settings.database_url)
            owner_url = str(self._settings.database_owner_url or url)
            await _migrate(owner_url)
        else:
            owner_url = (await self._run(EmbeddedPostgres(self.state_dir))).url
            await _migrate(owner_url, self.state_dir)
            url = await make_login(owner_url, "lastmile", self._secret("lastmile"), *_WORKER_GROUPS)
        self.environment["DATABASE_URL"] = url
        await self._start_radius(owner_url)
        await self._start_nas()

    async def _start_radius(self, owner_url: str) -> None:
        try:
            find_freeradius()
            self.radius = await self._run(
                FreeRadius(
                    self.state_dir,
                    database_url=await make_login(owner_url, self._radius_login, self._secret("radius"), _RADIUS_GROUP),
                    secret=self._secret("radius-client"),
                    auth_port=self._ports.claim("RADIUS authentication"),
                    acct_port=self._ports.claim("RADIUS accounting"),
                )
            )
        except FreeRadiusMissingError as missing:
            self._say(f"The stack starts without a RADIUS server: {missing}")

    async def _start_nas(self) -> None:
        secret = self._secret("nas").encode()
        port = self._ports.claim("NAS")
        try:
            self.nas = (await self._run(FreeRadiusNas(self.state_dir, secret=secret, port=port))).nas
        except FreeRadiusMissingError:
            self._say("The stack starts a scripted NAS, which acknowledges every request.")
            scripted = ScriptedNas(secret, port=port, script=lambda _: ACK)
            self.nas = (await self._exit.enter_async_context(scripted)).nas

    async def _start_netbox(self) -> None:
        if self._settings.netbox_url:
            return
        token, file = self._secret("netbox"), secret_file(self.state_dir, "netbox")
        port = self._ports.claim("NetBox")
        self.netbox = await self._run(NetBoxStandIn(self.state_dir, port=port, token_file=file))
        # The worker refuses to start if NetBox lacks a custom field or a tag.
        async with NetBox(self.netbox.url, token) as netbox:
            await set_up(netbox.wire, await check(netbox.wire))
        self.environment |= {"NETBOX_URL": self.netbox.url, "NETBOX_TOKEN": token}

    async def _start_access_network(self) -> None:
        self.acs = self._exit.enter_context(GenieAcsServer(port=self._ports.claim("ACS")))
        self.olt = await self._exit.enter_async_context(VolthaServer(port=self._ports.claim("OLT controller")))
        self.olt.model.add_olt()

    def _place_worker(self) -> None:
        chosen = self._settings.http_port if "http_port" in self._settings.model_fields_set else 0
        self._worker_port = chosen or self._ports.claim("worker")
        self.environment |= {"LASTMILE_HTTP_HOST": HOST, "LASTMILE_HTTP_PORT": str(self._worker_port)}

    async def _start_worker(self) -> None:
        grace = self._settings.shutdown_grace_seconds
        await self._run(Worker(self.state_dir, self.environment, port=self._worker_port, grace_seconds=grace))

    def _place_api(self) -> None:
        chosen = self._settings.api_port if "api_port" in self._settings.model_fields_set else 0
        self._api_port = chosen or self._ports.claim("API")
        self._api_metrics_port = self._ports.claim("API's metrics")
        self.environment |= {
            "LASTMILE_API_HOST": HOST,
            "LASTMILE_API_PORT": str(self._api_port),
            "LASTMILE_API_METRICS_PORT": str(self._api_metrics_port),
        }

    async def _start_api(self) -> None:
        grace = self._settings.shutdown_grace_seconds
        await self._run(Api(self.state_dir, self.environment, port=self._api_port, grace_seconds=grace))
        # The user's own database can outlive the state directory. A key in it would stay valid after its text is lost.
        if self._settings.database_url:
            self._say("The database is yours, so the stack creates no token of the API: `lastmile api-key add` does.")
            return
        self.api_token, new = await ensure_api_token(self.state_dir, self.environment["DATABASE_URL"])
        if new:
            self._say(f"The first token of the API, for all tenants, is shown once, and kept in {self.api_token}:")
            self._say(new)

    async def _start_prometheus(self) -> None:
        targets, api = [f"{HOST}:{self._worker_port}"], [f"{HOST}:{self._api_metrics_port}"]
        port = self._ports.claim("Prometheus")
        try:
            self.prometheus = await self._run(
                Prometheus(self.state_dir, targets=targets, api=api, port=port, interval=SCRAPE_SECONDS)
            )
        except PrometheusMissingError as missing:
            self._say(f"The stack starts without Prometheus: {missing}")

    def _publish(self) -> None:
        """Write the file by which clients in other terminals find this stack while it runs."""
        write_private(self._file, "".join(f"{name}={value}\n" for name, value in self.environment.items()))
        self._exit.callback(self._file.unlink, missing_ok=True)

    @property
    def _radius_login(self) -> str:
        """Return a login name of this stack alone, since logins belong to the whole database cluster."""
        return "lastmile_radius_" + hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:8]

    def _secret(self, name: str) -> str:
        return ensure_secret(self.state_dir, name)

    async def _run(self, server: _S) -> _S:
        await self._exit.enter_async_context(server)
        self._running.append(server.process)
        return server


async def _together(*starts: Coroutine[Any, Any, None]) -> None:
    """Start servers at the same time. Where one fails, the others stop, and the failure is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _migrate(owner_url: str, state_dir: Path | None = None) -> None:
    """Migrate the database. `state_dir` is the directory of the stack that owns the database.

    Raises:
        ServerFailedError: the database cannot be migrated.
    """
    try:
        await upgrade(owner_url)
    except UnknownSchemaError as failure:
        if state_dir is None:
            raise ServerFailedError(str(failure)) from failure
        version = "a development version of Lastmile" if failure.is_development else "a newer version of Lastmile"
        raise ServerFailedError(
            f"The state directory {state_dir} was created by {version}, and this version cannot use it. Remove the "
            "directory, or set LASTMILE_STATE_DIR to another one."
        ) from failure
    except PostgresTooOldError as failure:
        raise ServerFailedError(str(failure)) from failure
    except (OSError, SQLAlchemyError) as failure:
        shown = make_url(owner_url).render_as_string(hide_password=True)
        raise ServerFailedError(f"Cannot migrate the database {shown}: {failure}") from failure
