"""What a NetBox must have before Lastmile writes to it, as data, and the check.

NetBox ignores a filter by an unknown custom field, and a value for one. Without the check a misspelt field would return
foreign prefixes, and our own would never be found again.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from typing import Any

from ipam.netbox.errors import NetBoxAuthorizationError, NetBoxNotFoundError, NetBoxNotReadyError
from ipam.netbox.http import Object, Wire
from ipam.netbox.records import KEY, LINK, OBJECT_TYPE, SIZE, STATE, SUBSCRIBER, TAG, USED
from ipam.prefix import Prefix

__all__ = ["NOT_VISIBLE", "TESTED", "Creation", "Finding", "PoolPrefix", "check", "fields_made", "set_up"]

OLDEST = (4, 1)  # the first with unique custom fields
TESTED = "4.4 and 4.6"

_PREFIXES = "ipam/prefixes"
_CUSTOM_FIELDS = "extras/custom-fields"
_TAGS = "extras/tags"
_TENANTS = "tenancy/tenants"


@dataclass(frozen=True, slots=True)
class Creation:
    """An object that is missing, as `lastmile netbox setup` creates it."""

    path: str
    body: Object


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement, and how NetBox meets it."""

    requirement: str
    problem: str = ""
    """Empty where the requirement is met."""
    remedy: str = ""
    creation: Creation | None = None
    """What would meet the requirement; None where an operator must decide."""
    of_token: bool = False
    """The problem is the token, or the permissions of its user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPrefix:
    """The prefix in NetBox that a pool is expected to be."""

    name: str
    netbox_id: int
    prefix: Prefix
    vrf_id: int | None


def _field(name: str, label: str, description: str, *, kind: str = "text", unique: bool = False) -> Object:
    return {
        "object_types": [OBJECT_TYPE],
        "name": name,
        "label": label,
        "group_name": "Lastmile",
        "description": description,
        "type": kind,
        "unique": unique,
        "filter_logic": "exact",
        "ui_editable": "no",
    }


FIELDS = (
    _field(KEY, "Allocation key", "Whose prefix this is to Lastmile: it finds it again by this.", unique=True),
    _field(SUBSCRIBER, "Subscriber", "The subscriber's reference in Lastmile."),
    _field(STATE, "State", "The state of the delegation in Lastmile."),
    _field(LINK, "In Lastmile", "Where to find out more.", kind="url"),
    _field(USED, "Used", "Of a block: how many of its prefixes are not free.", kind="integer"),
    _field(SIZE, "Size", "Of a block: how many prefixes it has.", kind="integer"),
)

TAG_BODY: Object = {"name": "Lastmile", "slug": TAG, "description": "Assigned by Lastmile: do not edit by hand."}

NOT_VISIBLE = "not visible to the token: it was deleted, or a constraint of the token's permissions hides it"
"""The meaning of NetBox's answer 404."""

_SETUP = "run `lastmile netbox setup`"


async def check(
    wire: Wire, pools: Sequence[PoolPrefix] = (), tenants: Mapping[str, str] | None = None
) -> list[Finding]:
    """Return every requirement, met or not; `tenants` are the names, by id, of the tenants that the pools serve.

    A refused token, or a NetBox that is too old, is the only finding then. Raises `NetBoxError` where NetBox cannot be
    asked.
    """
    try:
        status = await wire.status()
    except NetBoxAuthorizationError as refusal:
        remedy = "set NETBOX_TOKEN to a token that is enabled and not expired, of an active user"
        return [Finding("token", refusal.problem, remedy, of_token=True)]
    findings = [_version(status)]
    if findings[0].problem:
        return findings  # the API of older versions differs
    for look in (
        _permissions(wire),
        _custom_fields(wire),
        _tag(wire),
        _tenants(wire, tenants or {}),
        _pools(wire, pools),
    ):
        try:
            findings += [found async for found in look]
        except NetBoxAuthorizationError as refusal:
            findings.append(_refused(refusal))
    return findings


async def set_up(wire: Wire, findings: Sequence[Finding]) -> list[Finding]:
    """Create the objects that these findings miss; return the findings that are met by that. Changes no object.

    Raises `NetBoxError`: the objects created before stay, and a second run creates the rest.
    """
    created = []
    for finding in findings:
        if finding.creation is not None:
            await wire.create(finding.creation.path, finding.creation.body)
            created.append(finding)
    return created


async def fields_made(wire: Wire) -> datetime:
    """Return when the youngest of our custom fields was created. If it existed before, its values are lost.

    Raises `NetBoxNotReadyError` where one is missing.
    """
    ours = {definition["name"] for definition in FIELDS}
    shown = [one async for one in wire.each(_CUSTOM_FIELDS) if one["name"] in ours]
    if missing := sorted(ours - {one["name"] for one in shown}):
        raise NetBoxNotReadyError(f"NetBox has no custom field {', '.join(missing)} any more: {_SETUP}")
    return max(datetime.fromisoformat(one["created"]) for one in shown)


def _refused(refusal: NetBoxAuthorizationError) -> Finding:
    return Finding(
        "permissions", refusal.problem, "grant the token's user `view` of this kind of object", of_token=True
    )


def _version(status: Mapping[str, Any]) -> Finding:
    version = str(status.get("netbox-version", "unknown"))
    what = f"NetBox {'.'.join(map(str, OLDEST))} or newer (tested: {TESTED})"
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) >= OLDEST:
        return Finding(what)
    return Finding(what, f"this is {version}", "upgrade NetBox")


async def _permissions(wire: Wire) -> AsyncIterator[Finding]:
    """Yield what the token may do with prefixes. A permission with constraints looks like one without."""
    granted = {"view", *({"POST": "add", "PUT": "change"}[method] for method in await wire.actions(_PREFIXES))}
    try:
        await wire.page(_PREFIXES, limit=1, brief=True)
    except NetBoxAuthorizationError:
        granted.discard("view")
    try:
        # NetBox looks at the permission before it looks for the object, and no object has the id 0.
        await wire.remove(_PREFIXES, 0)
    except NetBoxNotFoundError:
        granted.add("delete")
    except NetBoxAuthorizationError:
        pass
    for action in ("view", "add", "change", "delete"):
        what = f"permission to {action} prefixes"
        if action in granted:
            yield Finding(what)
        else:
            remedy = f"grant the token's user `{action}` on {OBJECT_TYPE}"
            remedy += "" if action == "view" else ", and let the token write"
            yield Finding(what, f"NetBox does not let the token {action} prefixes", remedy, of_token=True)


async def _custom_fields(wire: Wire) -> AsyncIterator[Finding]:
    shown = {one["name"]: one async for one in wire.each(_CUSTOM_FIELDS)}
    for definition in FIELDS:
        yield _custom_field(definition, shown.get(definition["name"]))
    ours = {definition["name"] for definition in FIELDS}
    for name, field in shown.items():
        # A default does not help: NetBox fills it in only where a request names no custom field at all.
        if name not in ours and field["required"] and OBJECT_TYPE in field["object_types"]:
            yield Finding(
                "no other custom field that every prefix needs",
                f"{name} is required, so NetBox refuses a prefix without it",
                "do not require it, or not for prefixes; a default does not help",
            )


def _custom_field(definition: Object, shown: Object | None) -> Finding:
    unique = "unique " if definition["unique"] else ""
    what = f"custom field {definition['name']} of prefixes ({unique}{definition['type']}, filter logic exact)"
    if shown is None:
        return Finding(what, "missing", _SETUP, Creation(_CUSTOM_FIELDS, definition))
    wrong = []
    if (kind := _value(shown["type"])) != definition["type"]:
        wrong.append(f"its type is {kind}")
    if definition["unique"] and not shown.get("unique"):
        wrong.append("it is not unique")
    if (logic := _value(shown["filter_logic"])) != "exact":
        wrong.append(f"its filter logic is {logic}")
    if OBJECT_TYPE not in shown["object_types"]:
        wrong.append(f"it is not for prefixes but for {', '.join(shown['object_types'])}")
    if shown.get("validation_regex"):
        wrong.append("it has a validation regex")
    if not wrong:
        return Finding(what)
    if kind != definition["type"]:  # NetBox does not let the type be changed
        return Finding(what, "; ".join(wrong), "rename or delete the field of another system in NetBox, then " + _SETUP)
    return Finding(what, "; ".join(wrong), "change it in NetBox, under Customization > Custom Fields")


def _value(choice: Any) -> Any:
    return choice["value"] if isinstance(choice, dict) else choice


async def _tag(wire: Wire) -> AsyncIterator[Finding]:
    what = f"tag {TAG}"
    shown = [tag async for tag in wire.each(_TAGS, slug=TAG) if tag["slug"] == TAG]
    if not shown:
        yield Finding(what, "missing", _SETUP, Creation(_TAGS, TAG_BODY))
    elif shown[0]["object_types"] and OBJECT_TYPE not in shown[0]["object_types"]:
        kinds = ", ".join(shown[0]["object_types"])
        yield Finding(what, f"it may only be given to {kinds}", "let it be given to prefixes, in NetBox")
    else:
        yield Finding(what)


async def _tenants(wire: Wire, tenants: Mapping[str, str]) -> AsyncIterator[Finding]:
    for slug, name in tenants.items():
        what = f"tenant {slug}"
        if slug in {tenant["slug"] async for tenant in wire.each(_TENANTS, slug=slug)}:
            yield Finding(what)
        else:
            yield Finding(what, "missing", _SETUP, Creation(_TENANTS, {"name": name, "slug": slug}))


async def _pools(wire: Wire, pools: Sequence[PoolPrefix]) -> AsyncIterator[Finding]:
    for pool in pools:
        where = "the global table" if pool.vrf_id is None else f"VRF #{pool.vrf_id}"
        what = f"pool {pool.name}: prefix {pool.prefix} in {where} (#{pool.netbox_id})"
        shown = await wire.member(_PREFIXES, pool.netbox_id)
        if shown is None:
            remedy = "if it is in NetBox, let the token's permissions reach it; if not, make it again there, then run "
            yield Finding(what, NOT_VISIBLE, f"{remedy}`lastmile pool add` again, just as before")
            continue
        vrf = shown["vrf"]
        wrong = []
        if ip_network(shown["prefix"]) != pool.prefix:
            wrong.append(f"it is {shown['prefix']} now")
        if (vrf and vrf["id"]) != pool.vrf_id:
            wrong.append(f"it is in {'VRF ' + vrf['display'] if vrf else 'the global table'} now")
        remedy = "change it back in NetBox, or bind the pool to another prefix" if wrong else ""
        yield Finding(what, "; ".join(wrong), remedy)
