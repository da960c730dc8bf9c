"""The ONU and the CPE of a line, in the form in which a controller gets them."""

from dataclasses import replace

from lastmile.contract.lines import Line
from lastmile.db import TenantConnection
from lastmile.devices.controllers import LineDevice
from lastmile.devices.records import DeviceKind
from lastmile.radius.accounts import find_username
from lastmile.radius.membership import read_speed

__all__ = ["device_of", "line_device", "with_rates"]


def device_of(tenant: str, subscriber_ref: str, kind: DeviceKind, line: Line | None) -> LineDevice | None:
    """Return the line's device of this kind, with its place; None if the line has none."""
    identity = None if line is None else line.onu_serial if kind is DeviceKind.ONU else line.cpe_identity
    if line is None or identity is None:
        return None
    return line_device(tenant, subscriber_ref, kind, identity, line)


def line_device(tenant: str, subscriber_ref: str, kind: DeviceKind, identity: str, line: Line) -> LineDevice:
    """Return the device of this identity at the line's place."""
    device = LineDevice(subscriber_ref, identity, line.olt, line.pon_port, line.s_vlan, line.c_vlan, tenant=tenant)
    if kind is DeviceKind.ONU:
        return replace(device, onu_type=line.onu_type, speed_profile=line.speed_profile)
    return replace(device, oui=line.cpe_oui, product_class=line.cpe_product_class, serial=line.cpe_serial)


async def with_rates(connection: TenantConnection, device: LineDevice) -> LineDevice:
    """Return the ONU with the rates of the line's plan, as far as they are known."""
    user = await find_username(connection, device.tenant, device.subscriber_ref)
    download, upload = await read_speed(connection, user) or (None, None)
    return replace(device, download_kbps=download, upload_kbps=upload)
