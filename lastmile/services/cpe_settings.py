"""What the CPE of a line must be set to, as an ACS asks for it in each session of the CPE."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from lastmile.contract.lines import Access, tr069_identity
from lastmile.db import Database, TenantConnection
from lastmile.db.statements import read_sql
from lastmile.services.credentials import read_account

__all__ = ["CpeSettings", "find_cpe_settings"]

_FIND = text(read_sql("lastmile.services", "line_of_cpe"))


class CpeSettings(BaseModel):
    """What a CPE must be set to. A suspended line keeps its settings: RADIUS limits or refuses its login."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    subscriber_ref: str
    in_service: bool
    """false: the line has ended, or its CPE is out of service. PPP and IPv6 are then disabled."""
    provisioning_code: str
    """The reference of the subscriber; empty: the CPE is out of service."""
    ppp_enabled: bool
    """Whether the line logs in with PPP. false for an IPoE line."""
    ppp_username: str | None
    """null: the line does not log in with PPP, or the CPE is out of service."""
    ppp_password: str | None = Field(repr=False)
    """null: as the user name; or RADIUS has only a hash of the password, and the CPE keeps its own."""
    ipv6_enabled: bool
    """Whether the line has IPv6."""
    ipv6_prefix: bool
    """Whether the CPE requests a delegated prefix (RFC 8415, section 6.3)."""


async def find_cpe_settings(
    database: Database,
    tenant: str,
    *,
    oui: str,
    product_class: str | None,
    serial: str,
    mac: str | None,
    asked_by: str,
) -> CpeSettings | None:
    """Return what the CPE with these names (TR-069), or else with this MAC address, must be set to.

    The audit log records once a day that `asked_by` reads the password of a line.

    Returns:
        None: the CPE belongs to no line of the tenant.
    """
    names = {
        "oui": oui,
        "product_class": product_class or "",
        "serial": serial,
        "mac": mac,
        "identity": tr069_identity(oui, product_class, serial),
    }
    async with database.tenant(tenant, actor=asked_by) as connection:
        line = (await connection.execute(_FIND, names)).one_or_none()
        return None if line is None else await _settings(connection, line)


async def _settings(connection: TenantConnection, line: Any) -> CpeSettings:
    has_ppp = line.in_service and line.access == Access.PPPOE
    account = await read_account(connection, line.subscriber_ref, record_once_a_day=True) if has_ppp else None
    return CpeSettings(
        subscriber_ref=line.subscriber_ref,
        in_service=line.in_service,
        provisioning_code=line.subscriber_ref if line.in_service else "",
        ppp_enabled=has_ppp,
        ppp_username=account and account.username,
        ppp_password=account and account.password,
        ipv6_enabled=line.in_service and line.has_ipv6,
        ipv6_prefix=line.in_service and line.has_delegated_prefix,
    )
