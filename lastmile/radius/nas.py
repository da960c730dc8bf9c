"""The NAS inventory in FreeRADIUS's own `nas` table, which FreeRADIUS reads as its clients and Lastmile as NASes."""

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import RowMapping

from lastmile.db import PlatformConnection
from lastmile.fields.scalars import WholeNumber, address_text
from lastmile.fields.text import PRINTABLE
from lastmile.radius.errors import NasConflictError, NasInUseError, UnknownNasError
from lastmile.radius.tables import nas, radacct

__all__ = ["NasChange", "NasRecord", "add_nas", "list_nas", "remove_nas", "set_nas"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(address_text)]
Secret = Annotated[str, Field(strict=True, min_length=1, max_length=60), PRINTABLE]
Type = Annotated[str, Field(strict=True, pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
Port = Annotated[WholeNumber, Field(ge=1, le=65535)]


class NasRecord(BaseModel):
    """A NAS as an operator describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Address
    """The source address of the NAS (NAS-IP-Address), and the destination of Disconnect- and CoA-Requests."""
    name: Name
    secret: Annotated[Secret, Field(repr=False)]
    coa_port: Port = 3799
    """The UDP port for Disconnect- and CoA-Requests (RFC 5176 section 2)."""
    coa_address: Address | None = None
    """Another destination of Disconnect- and CoA-Requests, such as a management address."""
    type: Type = "other"
    """The attribute template that the NAS understands in a CoA-Request. `other`: none."""
    description: Annotated[str, Field(strict=True, max_length=200), PRINTABLE] = ""


class NasChange(BaseModel):
    """A change of a NAS. A field that is None stays unchanged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = None
    secret: Secret | None = Field(default=None, repr=False)
    coa_port: Port | None = None
    coa_address: Address | None = None
    """Another destination of Disconnect- and CoA-Requests. The NAS's own address removes it."""
    type: Type | None = None


async def add_nas(connection: PlatformConnection, record: NasRecord) -> bool:
    """Add a NAS. Return False if the same NAS exists.

    Raises:
        NasConflictError: a NAS with this address exists and differs.
    """
    values = {
        "nasname": str(record.address),
        "shortname": record.name,
        "secret": record.secret,
        "coa_port": record.coa_port,
        "coa_address": _separate_address(record.address, record.coa_address),
        "type": record.type,
        "description": record.description,
    }
    made = await connection.scalar(insert(nas).values(values).on_conflict_do_nothing().returning(nas.c.id))
    if made is not None:
        return True
    found = (await connection.execute(select(nas).where(nas.c.nasname == values["nasname"]))).mappings().one()
    if differing := [_COLUMN_LABELS[column] for column, value in values.items() if found[column] != value]:
        raise NasConflictError(
            f"NAS {record.address} exists with another {', '.join(differing)}. Change it with `lastmile nas set`."
        )
    return False


async def set_nas(connection: PlatformConnection, named: str, change: NasChange) -> RowMapping:
    """Change the NAS with this name or address, and return it.

    Raises:
        UnknownNasError: no NAS has this name or address.
        NasConflictError: several NASes have this name.
    """
    found = await _find(connection, named)
    values: dict[str, Any] = change.model_dump(exclude_none=True, exclude={"name", "coa_address"})
    if change.name is not None:
        values["shortname"] = change.name
    if change.coa_address is not None:
        values["coa_address"] = _separate_address(found["nasname"], change.coa_address)
    await connection.execute(update(nas).where(nas.c.id == found["id"]).values(values))
    return (await connection.execute(_NAS_COLUMNS.where(nas.c.id == found["id"]))).mappings().one()


async def remove_nas(connection: PlatformConnection, named: str, *, force: bool = False) -> RowMapping:
    """Remove the NAS with this name or address, and return it.

    Raises:
        UnknownNasError: no NAS has this name or address.
        NasConflictError: several NASes have this name.
        NasInUseError: the NAS has open sessions, which Lastmile could not end without the record, and `force` is False.
    """
    found = await _find(connection, named)
    here = radacct.c.acctstoptime.is_(None), func.host(radacct.c.nasipaddress) == found["nasname"]
    count = await connection.scalar(select(func.count()).select_from(radacct).where(*here)) or 0
    if count and not force:
        raise NasInUseError(
            f"NAS {found['shortname']} ({found['nasname']}) has {count:,} open sessions in radacct. Without its record "
            "Lastmile cannot end them. Close the sessions first, or remove the NAS with --force."
        )
    shown = (await connection.execute(_NAS_COLUMNS.where(nas.c.id == found["id"]))).mappings().one()
    await connection.execute(delete(nas).where(nas.c.id == found["id"]))
    return shown


async def list_nas(connection: PlatformConnection) -> list[RowMapping]:
    """Return every NAS: `name`, `address`, `coa_address`, `coa_port`, `type`, `description`; never a secret."""
    return list((await connection.execute(_NAS_COLUMNS.order_by(nas.c.nasname))).mappings())


_NAS_COLUMNS = select(
    nas.c.shortname.label("name"),
    nas.c.nasname.label("address"),
    func.coalesce(nas.c.coa_address, nas.c.nasname).label("coa_address"),
    nas.c.coa_port,
    nas.c.type,
    nas.c.description,
)

_COLUMN_LABELS = {
    "nasname": "address",
    "shortname": "name",
    "secret": "secret",
    "coa_port": "CoA port",
    "coa_address": "CoA address",
    "type": "type",
    "description": "description",
}


async def _find(connection: PlatformConnection, named: str) -> RowMapping:
    by_name = select(nas).where(or_(nas.c.shortname == named, nas.c.nasname == named)).with_for_update()
    found = (await connection.execute(by_name)).mappings().all()
    if not found:
        raise UnknownNasError(f"No NAS has the name or address {named}. `lastmile nas list` shows every NAS.")
    if len(found) > 1:
        addresses = ", ".join(row["nasname"] for row in found)
        raise NasConflictError(
            f"Several NASes have the name {named}. Give the address of the NAS instead ({addresses})."
        )
    return found[0]


def _separate_address(address: Any, coa_address: Any) -> str | None:
    """Return `coa_address` if it differs from the NAS's own address, otherwise None."""
    return None if coa_address is None or str(coa_address) == str(address) else str(coa_address)
