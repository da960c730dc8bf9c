"""`lastmile devices`."""

from lastmile.cli.connections import check_tenant, choose_tenant, load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_all
from lastmile.fields.phrases import format_time
from lastmile.services.devices import DeviceState, list_devices

__all__ = ["devices"]


async def devices(subscriber: str | None, *, tenant: str | None, as_json: bool) -> Exit:
    """List the devices that wait, or all devices of a subscriber."""
    async with open_database(load_settings()) as database:
        if subscriber is None:
            await check_tenant(database, tenant)
        else:
            tenant = await choose_tenant(database, tenant)
        found = await list_devices(database, tenant, subscriber)
    print_all(
        [device.as_json() for device in found],
        as_json,
        ("tenant", "subscriber", "device", "should be", "is", "waits since", "last error"),
        [_row(device) for device in found],
        "No device waits." if subscriber is None else f"Subscriber {subscriber} has no devices.",
    )
    return Exit.DONE


def _row(device: DeviceState) -> tuple[str, ...]:
    state = "confirmed" if device.confirmed else device.waits_for or "not confirmed"
    return (
        device.tenant,
        device.subscriber_ref,
        f"{device.kind.upper()} {device.identity}",
        "in service" if device.in_service else "out of service",
        state,
        "" if device.since is None else format_time(device.since),
        device.error,
    )
