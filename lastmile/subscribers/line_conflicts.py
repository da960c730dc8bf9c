"""The resources that only one line can have, and the message that names the line that has them."""

from collections.abc import Iterator

from sqlalchemy import ColumnElement, func, select

from lastmile.contract.lines import ConnectionType, Line, Option82Policy
from lastmile.db import TenantConnection
from lastmile.subscribers.errors import RecordConflictError
from lastmile.subscribers.tables import network_profiles, subscribers

__all__ = ["line_conflict"]

_CHANGED_MEANWHILE = "The network profile changed while the order ran. Send the order again."


async def line_conflict(connection: TenantConnection, line: Line, changed: str | None = None) -> RecordConflictError:
    """Return the error with each resource that another line has.

    `changed`: the id of the network profile that becomes `line`; its own resources are no conflict.
    """
    found = []
    for same, words in _exclusive_resources(line):
        owner = (
            select(subscribers.c.ref)
            .join(network_profiles, network_profiles.c.subscriber_id == subscribers.c.id)
            .where(*same, network_profiles.c.id.is_distinct_from(changed))
            .limit(1)
        )
        if ref := await connection.scalar(owner):
            found.append(words.format(f"subscriber {ref}'s line"))
    if changed is None or not found:
        return RecordConflictError("; ".join(found) or _CHANGED_MEANWHILE)
    words = "; ".join(one.removeprefix("line.") for one in found)
    return RecordConflictError(f"{words}. Change or deprovision that line first, or order another value.")


def _exclusive_resources(line: Line) -> Iterator[tuple[list[ColumnElement[bool]], str]]:
    """Yield each resource that only one line can have: the condition of the database's constraint, and the message."""
    other = network_profiles.c
    # A resource that the line does not have is omitted: `== None` becomes IS NULL, and finds every line without it.
    if line.onu_serial is not None:
        shareable = line.connection_type is ConnectionType.FTTB
        exclusive = [other.connection_type != ConnectionType.FTTB] if shareable else []
        words = f"line.onu_serial: ONU {line.onu_serial} already belongs to {{}}"
        yield [other.onu_serial == line.onu_serial, *exclusive], f"{words}, and only fttb lines share an ONU"
    if line.cpe_mac is not None:
        yield [other.cpe_mac == line.cpe_mac], f"line.cpe_mac: CPE {line.cpe_mac} already belongs to {{}}"
    if line.cpe_serial is not None:
        words = f"line.cpe_serial: CPE {line.tr069_identity} already belongs to {{}}"
        product_class = func.coalesce(other.cpe_product_class, "") == (line.cpe_product_class or "")
        yield [other.cpe_oui == line.cpe_oui, product_class, other.cpe_serial == line.cpe_serial], words
    if line.duid is not None:
        yield [other.duid == line.duid], f"line.duid: DUID {line.duid} already belongs to {{}}"
    port = [line.olt, line.pon_port, line.s_vlan, line.c_vlan]
    if None not in port:
        columns = [other.olt, other.pon_port, other.s_vlan, other.c_vlan]
        words = f"line.c_vlan: S-VLAN {line.s_vlan} and C-VLAN {line.c_vlan} on port {line.pon_port} of OLT {line.olt}"
        yield [column == value for column, value in zip(columns, port, strict=True)], f"{words} already belong to {{}}"
    if line.circuit_id is not None and line.option82_policy is Option82Policy.ENFORCE:
        circuit = line.circuit_id.replace("{", "{{").replace("}", "}}")
        words = f"line.circuit_id: {circuit!r} already belongs to {{}}, and both lines enforce their circuit id"
        yield [other.circuit_id == line.circuit_id, other.option82_policy == Option82Policy.ENFORCE], words
