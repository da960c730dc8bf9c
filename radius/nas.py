"""The NAS inventory, in FreeRADIUS's own `nas` table: one row serves its client list and our Disconnects."""

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import RowMapping

from db import PlatformConnection
from fields.scalars import WholeNumber, address_text
from fields.text import PRINTABLE
from radius.errors import NasConflict
from radius.tables import nas

__all__ = ["NasRecord", "add_nas", "list_nas"]


class NasRecord(BaseModel):
    """A NAS as its operator describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[IPv4Address | IPv6Address, BeforeValidator(address_text)]
    """Where it sends from, and where it takes Disconnect- and CoA-Requests."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
    secret: Annotated[str, Field(strict=True, min_length=1, max_length=60, repr=False), PRINTABLE]
    coa_port: Annotated[WholeNumber, Field(ge=1, le=65535)] = 3799
    """RFC 5176, 2."""
    description: Annotated[str, Field(strict=True, max_length=200), PRINTABLE] = ""


async def add_nas(connection: PlatformConnection, record: NasRecord) -> bool:
    """Add a NAS; returns False where it exists just so. Raises `NasConflict` where it exists and differs."""
    values = {
        "nasname": str(record.address),
        "shortname": record.name,
        "secret": record.secret,
        "coa_port": record.coa_port,
        "description": record.description,
    }
    made = await connection.scalar(insert(nas).values(values).on_conflict_do_nothing().returning(nas.c.id))
    if made is not None:
        return True
    found = (await connection.execute(select(nas).where(nas.c.nasname == values["nasname"]))).mappings().one()
    if differing := [column for column, value in values.items() if found[column] != value]:
        raise NasConflict(f"NAS {record.address} exists, with another {', '.join(differing)}")
    return False


async def list_nas(connection: PlatformConnection) -> list[RowMapping]:
    """Every NAS: `name`, `address`, `coa_port`, `description`; never a secret."""
    return list(
        (
            await connection.execute(
                select(
                    nas.c.shortname.label("name"), nas.c.nasname.label("address"), nas.c.coa_port, nas.c.description
                ).order_by(nas.c.nasname)
            )
        ).mappings()
    )
