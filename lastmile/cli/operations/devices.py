"""`lastmile devices`."""

from lastmile.cli.connections import check_tenant, choose_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.orders.decisions import parse_decision
from lastmile.cli.output import print_all, print_result, print_text
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import format_time
from lastmile.services import devices as services
from lastmile.services.devices import DeviceState, list_devices, retry_devices

__all__ = ["HEADINGS", "devices", "devices_row", "drop_device_call"]

HEADINGS = ("tenant", "subscriber", "device", "should be", "is", "waits since", "last error")


async def devices(subscriber: str | None, *, tenant: str | None, retry: bool, as_json: bool) -> Exit:
    """List the devices that wait, or all devices of a subscriber; with `retry`, have their controllers asked now."""
    if retry and subscriber is None:
        raise InvalidInputError("--retry needs a SUBSCRIBER: name the subscriber whose devices are ready.")
    async with open_database(load_settings()) as database:
        if subscriber is None:
            await check_tenant(database, tenant)
        else:
            tenant = await choose_tenant(database, tenant)
        retried = await retry_devices(database, tenant, subscriber) if retry and tenant and subscriber else 0
        found = await list_devices(database, tenant, subscriber)
    print_all(
        [device.as_json() for device in found],
        as_json,
        HEADINGS,
        [devices_row(device) for device in found],
        "No device waits." if subscriber is None else f"Subscriber {subscriber} has no devices.",
    )
    if retry and not as_json:
        again = f"Workers ask the controllers again now: `lastmile devices {subscriber}` shows what came of it."
        print_text(again if retried else f"No device of subscriber {subscriber} waits.")
    return Exit.DONE


async def drop_device_call(
    subscriber: str, device: str, *, tenant: str | None, why: str, by: str | None, as_json: bool
) -> Exit:
    """End the pending call of a device that will never follow."""
    decision = parse_decision(by=by, why=why, step=None)
    async with open_database(load_settings()) as database:
        tenant = await choose_tenant(database, tenant)
        await services.drop_device_call(
            database,
            tenant,
            subscriber,
            device,
            by=decision.by,
            why=decision.why,
            actor=current_user() or decision.by,
        )
    print_result(
        f"Workers no longer ask the controller for {device}. Its state is not confirmed.",
        as_json,
        tenant=tenant,
        subscriber_ref=subscriber,
        identity=device,
    )
    return Exit.DONE


def devices_row(device: DeviceState) -> tuple[str, ...]:
    """Return the row of a device below `HEADINGS`."""
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
