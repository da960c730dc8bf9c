"""`lastmile hooks`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lastmile.cli.connections import check_tenant, choose_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_all, print_json, print_result, print_text
from lastmile.client.hook_intake import HookIntake
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.temporal.connection import connect
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import format_time
from lastmile.services.hooks.events import HookEvent, HookEventState, ignore_event, list_events
from lastmile.services.hooks.registry import MAPPINGS
from lastmile.services.hooks.sources import NewHookSource, add_source, list_sources, remove_source
from lastmile.validation_messages import mistakes, suggest_name

__all__ = ["hooks_add", "hooks_ignore", "hooks_list", "hooks_remove", "hooks_retry", "hooks_sources"]


async def hooks_add(source: str, *, mapping: str, tenant: str | None, secret_file: str | None, as_json: bool) -> Exit:
    """Add a source, and print its secret this one time."""
    settings = load_settings()
    async with open_database(settings) as database:
        of_tenant = await choose_tenant(database, tenant)
        new = _validate(source, of_tenant, mapping, secret_file)
        added, secret = await add_source(database, new, settings.key_ring, actor=current_user())
    print_result(
        f"Hook source {added.name} for {added.tenant} added. The CRM calls /hooks/{added.name} of the API. "
        f"Store the secret now, since it cannot be shown again:\n{secret}",
        as_json,
        secret=secret,
        **asdict(added),
    )
    return Exit.DONE


def _validate(source: str, tenant: str, mapping: str, secret_file: str | None) -> NewHookSource:
    if mapping not in MAPPINGS:
        raise InvalidInputError(
            f"--mapping: There is no mapping {mapping!r}. The mappings are: {', '.join(MAPPINGS)}. "
            f"{suggest_name(mapping, MAPPINGS)}".rstrip()
        )
    try:
        secret = None if secret_file is None else Path(secret_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as failure:
        raise InvalidInputError(f"--secret-file: {secret_file} cannot be read: {failure}") from None
    try:
        return NewHookSource(source=source, tenant=tenant, mapping=mapping, secret=secret)
    except ValidationError as failure:
        names = {"source": "SOURCE", "secret": "--secret-file"}
        raise InvalidInputError(
            "Invalid hook source:", mistakes(failure, NewHookSource, names, show_values=False)
        ) from None


async def hooks_sources(*, as_json: bool) -> Exit:
    """List the sources."""
    async with open_database(load_settings()) as database:
        found = await list_sources(database)
    print_all(
        [asdict(source) for source in found],
        as_json,
        ("source", "tenant", "mapping", "added"),
        [(source.name, source.tenant, source.mapping, format_time(source.created_at)) for source in found],
        "There are no hook sources yet. Add one: lastmile hooks add SOURCE --mapping uisp",
    )
    return Exit.DONE


async def hooks_remove(source: str, *, as_json: bool) -> Exit:
    """Remove a source. Raises `UnknownHookSourceError`."""
    async with open_database(load_settings()) as database:
        removed = await remove_source(database, source, actor=current_user())
    print_result(f"Hook source {removed.name} removed. Its events stay.", as_json, **asdict(removed))
    return Exit.DONE


async def hooks_list(tenant: str | None, *, as_json: bool) -> Exit:
    """List the events that are kept."""
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        kept = await list_events(database, tenant)
    print_all(
        [_facts(event) for event in kept],
        as_json,
        ("number", "tenant", "source", "event", "subscriber", "received", "reason"),
        [
            (
                str(event.id),
                event.tenant,
                event.source,
                event.event,
                event.subscriber_ref or "",
                format_time(event.received_at),
                _reason(event),
            )
            for event in kept
        ],
        "No event is kept: each was ordered or needs no order.",
        spare=("tenant", "received"),
    )
    return Exit.DONE


async def hooks_retry(numbers: Sequence[int], *, as_json: bool) -> Exit:
    """Map the kept events again; FAILED if one of them is kept still."""
    settings = load_settings()
    code = Exit.DONE
    async with open_database(settings) as database:
        kept = _chosen(await list_events(database), numbers)
        sources = {(source.tenant, source.name): source for source in await list_sources(database)}
        client = await connect(settings.environment, settings.key_ring, lazy=True)
        orders = OperatorClient(client, settings.task_queue).orders
        async with OrderAcceptance(database, orders, settings.key_ring) as acceptance:
            intake = HookIntake(database, acceptance, settings.key_ring)
            for event in kept:
                if (source := sources.get((event.tenant, event.source))) is None:
                    raise InvalidInputError(
                        f"Event {event.id} came from hook source {event.source}, which is removed. Add the source "
                        f"again (`lastmile hooks add {event.source}`), or ignore the event "
                        f"(`lastmile hooks ignore {event.id}`)."
                    )
                settled = await intake.order(source, event)
                _show(settled, as_json)
                if settled.state is HookEventState.FAILED:
                    code = Exit.FAILED
    if not kept and not as_json:
        print_text("No event is kept.")
    return code


def _chosen(kept: Sequence[HookEvent], numbers: Sequence[int]) -> list[HookEvent]:
    if unknown := sorted(set(numbers) - {event.id for event in kept}):
        raise InvalidInputError(
            f"No event with the number {', '.join(map(str, unknown))} is kept: `lastmile hooks list` lists them."
        )
    return [event for event in kept if not numbers or event.id in numbers]


async def hooks_ignore(number: int, *, why: str, as_json: bool) -> Exit:
    """Ignore a kept event."""
    async with open_database(load_settings()) as database:
        (event,) = _chosen(await list_events(database), [number])
        _show(await ignore_event(database, event, why, actor=current_user()), as_json)
    return Exit.DONE


def _show(event: HookEvent, as_json: bool) -> None:
    if as_json:
        print_json(_facts(event))
        return
    what = ", ".join(event.order_ids) if event.state is HookEventState.ORDERED else _reason(event)
    print_text(f"Event {event.id} ({event.source}, {event.event}) is {event.state}: {what}")


def _facts(event: HookEvent) -> dict[str, Any]:
    facts = asdict(event)
    del facts["body"]
    return facts


def _reason(event: HookEvent) -> str:
    return event.reason or "The mapping has not ended. Retry the event."
