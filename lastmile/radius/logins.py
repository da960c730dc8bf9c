"""How the CPE of a line logs in, as rows of FreeRADIUS's tables.

Option 82 (RFC 3046) reaches RADIUS in the attributes of RFC 4679. Their values are written in hexadecimal: FreeRADIUS
would expand, or even execute, a text within quotation marks.
"""

from collections.abc import Mapping

from lastmile.contract.lines import Access, Line, Option82Policy
from lastmile.fields.text import GENERATED_ONLY, looks_generated
from lastmile.radius.errors import AccountConflictError
from lastmile.radius.escaping import escaped

__all__ = [
    "OPTION82_ATTRIBUTES",
    "PASSWORD",
    "PORT_ATTRIBUTE",
    "check_items",
    "credential",
    "port_items",
    "stored_username",
    "username",
]

PASSWORD = "Cleartext-Password"
PORT_ATTRIBUTE = "Class"

_ATTRIBUTES: Mapping[str, str] = {"circuit_id": "ADSL-Agent-Circuit-Id", "remote_id": "ADSL-Agent-Remote-Id"}
OPTION82_ATTRIBUTES = tuple(_ATTRIBUTES.values())


def username(tenant: str, subscriber_ref: str) -> str:
    """Return the user name that Lastmile generates for the subscriber, a network access identifier (RFC 7542).

    The realm names the tenant: row-level security on FreeRADIUS's tables reads the tenant from the realm. The realm
    contains a dot, since FreeRADIUS's stock `filter_username` rejects a realm without one.
    """
    return f"{subscriber_ref}@{tenant}.lastmile"


def stored_username(tenant: str, subscriber_ref: str, line: Line) -> str:
    """Return the line's user name as FreeRADIUS looks it up.

    Raises:
        AccountConflictError: the user name looks like the generated one of a line. The model refuses such a line, but
            `relocate` changes the circuit id of a stored line.
    """
    if line.login_name is None:
        return username(tenant, subscriber_ref)
    if looks_generated(line.login_name):
        raise AccountConflictError(
            f"line: the user name {line.login_name} {GENERATED_ONLY}. Give the line another circuit_id or remote_id."
        )
    return escaped(line.login_name)


def credential(line: Line, password: str) -> tuple[str, str]:
    """Return the check item that makes the account: the password, or the accepted login without a password."""
    return ("Auth-Type", "Accept") if line.access is Access.IPOE else (PASSWORD, password)


def check_items(line: Line) -> dict[str, str]:
    """Return the attributes that a login must have: the port of a line that enforces option 82."""
    if line.option82_policy is not Option82Policy.ENFORCE:
        return {}
    return {_ATTRIBUTES[field]: f"0x{value.encode().hex()}" for field, value in _port(line).items()}


def port_items(line: Line) -> list[tuple[str, str]]:
    """Return the reply item that records the port of each login; none unless the line's policy is `log`.

    FreeRADIUS puts the port into Class (RFC 2865 section 5.25), and stores Class with the login in `radpostauth`. The
    audit compares Class with the line.
    """
    port = _port(line)
    if line.option82_policy is not Option82Policy.LOG or not port:
        return []
    return [(PORT_ATTRIBUTE, "`{}`".format("|".join(f"%{{string:{_ATTRIBUTES[field]}}}" for field in port)))]


def _port(line: Line) -> dict[str, str]:
    return {field: value for field in _ATTRIBUTES if (value := getattr(line, field)) is not None}
