"""FreeRADIUS's own tables, with the columns that Lastmile uses, and the attribute templates."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Computed,
    DateTime,
    FetchedValue,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET, JSONB

from lastmile.db import metadata

__all__ = [
    "former_usernames",
    "given_passwords",
    "is_account",
    "is_managed",
    "nas",
    "radacct",
    "radcheck",
    "radgroupcheck",
    "radgroupreply",
    "radius_choices",
    "radius_templates",
    "radpostauth",
    "radreply",
    "radusergroup",
]


def _tenant_of_user() -> Column[str]:
    """Return the tenant column. A trigger sets it, from the realm of the user name or from the user's account."""
    return Column("tenant_id", Text, nullable=False, server_default=FetchedValue())


def _tenant_of_group() -> Column[str]:
    """Return the tenant column, computed from the first label of the realm in `group@tenant.lastmile`."""
    return Column("tenant_id", Text, Computed("split_part(split_part(groupname, '@', 2), '.', 1)", persisted=True))


def _recorded_at() -> Column[datetime]:
    """Return the column with the database's time of the insertion; NULL in rows that are older than the column."""
    return Column("recorded_at", DateTime(timezone=True), server_default=func.clock_timestamp())


def _items(name: str, owner: str, op: str, *more: Column[str]) -> Table:
    """Return one of the four tables of check and reply items."""
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True),
        Column(owner, Text, nullable=False, server_default=""),
        Column("attribute", Text, nullable=False, server_default=""),
        Column("op", String(2), nullable=False, server_default=op),
        Column("value", Text, nullable=False, server_default=""),
        _tenant_of_user() if owner == "username" else _tenant_of_group(),
        *more,
    )


radcheck = _items("radcheck", "username", "==", Column("subscriber_ref", Text), Column("created_by_order", Text))
radreply = _items("radreply", "username", "=")
radgroupcheck = _items("radgroupcheck", "groupname", "==")
radgroupreply = _items("radgroupreply", "groupname", "=")

radusergroup = Table(
    "radusergroup",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("username", Text, nullable=False, server_default=""),
    Column("groupname", Text, nullable=False, server_default=""),
    Column("priority", Integer, nullable=False, server_default="0"),
    _tenant_of_user(),
)

given_passwords = Table(
    "given_passwords",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("order_id", Text, primary_key=True),
    Column("key_name", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

former_usernames = Table(
    "former_usernames",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    Column("username", Text, primary_key=True),
    Column("former", Text, primary_key=True),
    Column("logins_until", DateTime(timezone=True), nullable=False),
)

radacct = Table(
    "radacct",
    metadata,
    Column("radacctid", BigInteger, primary_key=True),
    Column("acctsessionid", Text, nullable=False),
    Column("acctuniqueid", Text, nullable=False),
    Column("username", Text),
    Column("realm", Text),
    Column("nasipaddress", INET, nullable=False),
    Column("nasportid", Text),
    Column("nasporttype", Text),
    Column("acctstarttime", DateTime(timezone=True)),
    Column("acctupdatetime", DateTime(timezone=True)),
    Column("acctstoptime", DateTime(timezone=True)),
    Column("acctinterval", BigInteger),
    Column("acctsessiontime", BigInteger),
    Column("acctauthentic", Text),
    Column("connectinfo_start", Text),
    Column("connectinfo_stop", Text),
    Column("acctinputoctets", BigInteger),
    Column("acctoutputoctets", BigInteger),
    Column("calledstationid", Text),
    Column("callingstationid", Text),
    Column("acctterminatecause", Text),
    Column("servicetype", Text),
    Column("framedprotocol", Text),
    Column("framedipaddress", INET),
    Column("framedipv6address", INET),
    Column("framedipv6prefix", INET),
    Column("framedinterfaceid", Text),
    Column("delegatedipv6prefix", INET),
    Column("class", Text),
    _tenant_of_user(),
    _recorded_at(),
)

radpostauth = Table(
    "radpostauth",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("username", Text, nullable=False),
    Column("pass", Text),
    Column("reply", Text),
    Column("calledstationid", Text),
    Column("callingstationid", Text),
    Column("authdate", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("class", Text),
    _tenant_of_user(),
    _recorded_at(),
)

nas = Table(
    "nas",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("nasname", Text, nullable=False),
    Column("shortname", Text, nullable=False),
    Column("type", Text, nullable=False, server_default="other"),
    Column("ports", Integer),
    Column("secret", Text, nullable=False),
    Column("server", Text),
    Column("community", Text),
    Column("description", Text),
    Column("coa_port", Integer, nullable=False, server_default="3799"),
    Column("coa_address", Text),
)

radius_templates = Table(
    "radius_templates",
    metadata,
    Column("name", Text, primary_key=True),
    Column("definition", JSONB, nullable=False),
)

radius_choices = Table(
    "radius_choices",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("templates", ARRAY(Text), nullable=False),
    Column("slow_download_kbps", BigInteger, nullable=False),
    Column("slow_upload_kbps", BigInteger, nullable=False),
)


def is_account() -> ColumnElement[bool]:
    """Return the condition of the rows of `radcheck` that make an account."""
    return func.lastmile_is_account(radcheck.c.attribute, radcheck.c.value)


def is_managed() -> ColumnElement[bool]:
    """Return the condition of the index `radcheck_line`."""
    return radcheck.c.tenant_id != ""
