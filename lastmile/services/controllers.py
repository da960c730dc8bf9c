"""The controllers of ONUs and CPEs: address, credentials and scope of each. `lastmile controller` manages them."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import (
    Column,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from lastmile.contract.lines import Reference, TenantId
from lastmile.db import Database, PlatformConnection, metadata
from lastmile.devices.drivers import Driver, Endpoint
from lastmile.devices.installed_drivers import find_driver, validate_options
from lastmile.devices.records import DeviceKind
from lastmile.devices.scopes import Scope
from lastmile.encryption.keys import KeyRing
from lastmile.errors import InvalidInputError, NonRetryableError
from lastmile.fields.devices import DeviceText, normalise_oui
from lastmile.fields.rules import rule_error
from lastmile.fields.scalars import Number, WholeNumber
from lastmile.fields.text import PRINTABLE
from lastmile.services.sealed_bodies import seal, unseal
from lastmile.subscribers.accepted_orders import SealedBody

__all__ = [
    "ControllerExistsError",
    "ControllerScopeError",
    "NewController",
    "StoredController",
    "UnknownControllerError",
    "add_controller",
    "device_controllers",
    "find_controller",
    "list_controllers",
    "remove_controller",
]

device_controllers = Table(
    "device_controllers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("driver", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("tenant_id", Text, ForeignKey("tenants.id")),
    Column("url", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("key_name", Text),
    Column("ca_file", Text),
    Column("timeout_seconds", Float, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("olts", ARRAY(Text), nullable=False),
    Column("models", ARRAY(Text), nullable=False),
    Column("options", JSONB, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# Two scopes that are added at the same time must see each other.
_LOCK = text("LOCK TABLE device_controllers IN SHARE ROW EXCLUSIVE MODE")


class ControllerExistsError(NonRetryableError):
    """Another controller has the name."""


class ControllerScopeError(NonRetryableError):
    """Another controller is responsible for the same devices, and neither goes first."""


class UnknownControllerError(NonRetryableError):
    """There is no controller of this name."""


def _url(written: str) -> str:
    try:
        parts = urlsplit(written)
        host, _ = parts.hostname, parts.port  # reading them validates them
    except ValueError:
        host = None
    # `lastmile controller list` shows the URL: it must contain no password.
    if not host or not parts.scheme or parts.username is not None or parts.query or parts.fragment:
        raise rule_error("must be a URL, as in https://acs.example.net:7557, without user name, password and query")
    return written


def _absolute(written: str) -> str:
    if not PurePosixPath(written).is_absolute():
        raise rule_error("must be an absolute path, since each worker reads the file")
    return written


def _model(written: Any) -> Any:
    return normalise_oui(written) or written


class NewController(BaseModel):
    """A controller as an operator describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    driver: str
    tenant: TenantId | None = None
    """None: every tenant."""
    url: Annotated[str, Field(strict=True, max_length=500), PRINTABLE, AfterValidator(_url)]
    username: Annotated[str, Field(strict=True, max_length=200), PRINTABLE] = ""
    secret: Annotated[str, Field(strict=True, max_length=5000, repr=False), PRINTABLE] = ""
    """The password, or the token; empty: the controller asks for none."""
    ca_file: Annotated[str, Field(strict=True, max_length=500), PRINTABLE, AfterValidator(_absolute)] | None = None
    timeout_seconds: Annotated[Number, Field(ge=1, le=300)] = 10
    in_flight: Annotated[WholeNumber, Field(ge=1, le=1000)] = 8
    olts: frozenset[Reference] = frozenset()
    models: frozenset[Annotated[DeviceText, BeforeValidator(_model)]] = frozenset()
    options: dict[str, Any] = {}
    """What the driver needs beside this."""


@dataclass(frozen=True, slots=True)
class StoredController:
    """A controller as the database has it."""

    name: str
    driver: str
    kind: DeviceKind
    tenant: str | None
    url: str
    username: str
    ca_file: str | None
    timeout_seconds: float
    in_flight: int
    """The most calls at once of each worker."""
    olts: list[str]
    models: list[str]
    options: dict[str, Any]
    updated_at: datetime
    sealed: SealedBody = field(repr=False)

    @property
    def scope(self) -> Scope:
        """The devices that the controller is responsible for."""
        return Scope(self.kind, self.tenant, frozenset(self.olts), frozenset(self.models))

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the secret."""
        return {name: value for name, value in asdict(self).items() if name != "sealed"}

    def endpoint(self, keys: KeyRing | None) -> Endpoint:
        """Return where the controller answers, with its secret. Raises `DecryptionError`."""
        return Endpoint(
            self.url,
            self.username,
            unseal(self.sealed, keys, f"The password of controller {self.name}").decode(),
            Path(self.ca_file) if self.ca_file else None,
            self.timeout_seconds,
            self.in_flight,
        )


async def add_controller(
    database: Database, new: NewController, keys: KeyRing | None, *, replace: bool = False, actor: str
) -> StoredController:
    """Add a controller; with `replace`, put it in the place of the one of its name.

    Raises:
        DriverError: there is no such driver.
        InvalidInputError: the options or the scope do not fit the driver.
        ControllerExistsError: a controller has the name, and `replace` is False.
        ControllerScopeError: another controller is as specific, and some device is in both scopes.
    """
    driver = find_driver(new.driver)
    validate_options(new.driver, driver, new.options)
    _check_scope(new, driver)
    sealed = seal(new.secret.encode(), keys)
    values = new.model_dump(exclude={"tenant", "secret", "olts", "models"}) | {
        "kind": driver.kind,
        "tenant_id": new.tenant,
        "secret": sealed.content,
        "key_name": sealed.key_name,
        "olts": sorted(new.olts),
        "models": sorted(new.models),
        "updated_at": func.now(),
    }
    added = (
        insert(device_controllers)
        .values(values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
        .returning(device_controllers)
    )
    async with database.platform(actor=actor) as connection:
        await connection.execute(_LOCK)
        present = await _read(connection)
        if not replace and any(one.name == new.name for one in present):
            raise ControllerExistsError(
                f"There is a controller {new.name} already. Choose another name, or replace it with --replace."
            )
        _check_competition(new, driver.kind, present)
        return _stored((await connection.execute(added)).one())


async def list_controllers(database: Database) -> list[StoredController]:
    """Return all controllers by name."""
    async with database.platform() as connection:
        return await _read(connection)


async def find_controller(database: Database, name: str) -> StoredController:
    """Return a controller. Raises `UnknownControllerError`."""
    async with database.platform() as connection:
        found = await connection.execute(select(device_controllers).where(device_controllers.c.name == name))
        return _known(name, found.one_or_none())


async def remove_controller(database: Database, name: str, *, actor: str) -> StoredController:
    """Remove a controller. Raises `UnknownControllerError`."""
    gone = delete(device_controllers).where(device_controllers.c.name == name).returning(device_controllers)
    async with database.platform(actor=actor) as connection:
        return _known(name, (await connection.execute(gone)).one_or_none())


async def _read(connection: PlatformConnection) -> list[StoredController]:
    rows = await connection.execute(select(device_controllers).order_by(device_controllers.c.name))
    return [_stored(row) for row in rows]


def _known(name: str, row: Row[Any] | None) -> StoredController:
    if row is None:
        raise UnknownControllerError(
            f"There is no controller {name}: `lastmile controller list` lists all controllers."
        )
    return _stored(row)


def _check_scope(new: NewController, driver: Driver) -> None:
    """Raise `InvalidInputError` if the scope names parts that devices of the driver's kind do not have."""
    if driver.kind is DeviceKind.ONU and new.models:
        raise InvalidInputError(f"--model: driver {new.driver} controls ONUs. Name their OLTs with --olt.")
    if driver.kind is DeviceKind.CPE and new.olts:
        raise InvalidInputError(f"--olt: driver {new.driver} controls CPEs. Name their models with --model.")


def _check_competition(new: NewController, kind: DeviceKind, present: list[StoredController]) -> None:
    scope = Scope(kind, new.tenant, new.olts, new.models)
    for other in present:
        if other.name != new.name and scope.competes_with(other.scope):
            raise ControllerScopeError(
                f"Controller {other.name} is responsible for {other.scope}. A device can have one controller: give "
                f"{new.name} another scope (--tenant, --{'olt' if kind is DeviceKind.ONU else 'model'}), or remove "
                f"{other.name} first."
            )


def _stored(row: Row[Any]) -> StoredController:
    return StoredController(
        row.name,
        row.driver,
        DeviceKind(row.kind),
        row.tenant_id,
        row.url,
        row.username,
        row.ca_file,
        row.timeout_seconds,
        row.in_flight,
        row.olts,
        row.models,
        row.options,
        row.updated_at,
        SealedBody(row.secret, row.key_name),
    )
