"""The checks that NetBox makes before a write. As in NetBox, no lock is held between the checks and the write."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from lastmile.devstack.netbox.data.presenter import Presenter
from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.http.http_errors import HttpError, InvalidValueError
from lastmile.devstack.netbox.model.fields import Fixed, Object
from lastmile.devstack.netbox.model.networks import Network
from lastmile.devstack.netbox.model.resource import Resource
from lastmile.devstack.netbox.model.resources import CUSTOM_FIELD

__all__ = ["validated"]

_NOT_A_DICTIONARY = (
    "Invalid data format. Custom field data must be passed as a dictionary mapping field names to their values."
)


def validated(
    resource: Resource, body: Any, store: Store, presenter: Presenter, *, current: Object | None = None, partial: bool
) -> Object:
    """Return the attributes to store for `body`. Missing ones keep the value of `current`, or get their default.

    Raises:
        HttpError: 400, with NetBox's messages.
    """
    if not isinstance(body, dict):
        complaint = f"Invalid data. Expected a dictionary, but got {type(body).__name__}."
        raise HttpError(400, {"non_field_errors": [complaint]})
    attributes = _parsed(resource, body, presenter, current, partial)
    _check_unique(resource, attributes, store, current)
    if resource.custom_fields:
        attributes["custom_fields"] = _custom_fields(resource, body.get("custom_fields"), store, current)
    if resource.type == "ipam.prefix":
        _check_duplicate_prefix(attributes, store, presenter, current)
    elif resource.type == "ipam.ipaddress":
        _check_duplicate_address(attributes, store, presenter, current)
    return attributes


def _parsed(
    resource: Resource, body: Mapping[str, Any], presenter: Presenter, current: Object | None, partial: bool
) -> Object:
    attributes: Object = {}
    complaints: dict[str, list[str]] = {}
    for name, field in resource.fields.items():
        if name not in body or isinstance(field, Fixed):
            attributes[name] = current[name] if current else field.default
            if field.required and not partial:
                complaints[name] = ["This field is required."]
            continue
        try:
            attributes[name] = field.accept(body[name], presenter)
        except InvalidValueError as error:
            complaints[name] = error.messages
    if complaints:
        raise HttpError(400, complaints)
    return attributes


def _check_unique(resource: Resource, attributes: Object, store: Store, current: Object | None) -> None:
    complaints: dict[str, list[str]] = {}
    for name, complaint in resource.unique.items():
        value = attributes[name]
        if value is None or not _others(store.matching(resource.type, {name: value}), current):
            continue
        key = "__all__" if complaint.startswith("Constraint") else name
        complaints.setdefault(key, []).append(complaint)
    if complaints:
        raise HttpError(400, complaints)


def _others(found: list[Object], current: Object | None) -> list[Object]:
    return [one for one in found if current is None or one["id"] != current["id"]]


def _custom_fields(resource: Resource, given: Any, store: Store, current: Object | None) -> Object:
    """Return the custom fields to store. NetBox 4.4 ignores undefined fields silently; later versions refuse them."""
    defined = {
        custom["name"]: custom for custom in store.all(CUSTOM_FIELD.type) if resource.type in custom["object_types"]
    }
    if given is None:
        values = current["custom_fields"] if current else {name: custom["default"] for name, custom in defined.items()}
    elif isinstance(given, dict):
        unknown = sorted(given.keys() - defined.keys())
        if unknown and store.version.refuses_unknown_custom_fields:
            words = "Custom field '{}' does not exist for this object type."
            raise HttpError(400, {"custom_fields": {name: words.format(name) for name in unknown}})
        values = (current["custom_fields"] if current else {}) | {n: v for n, v in given.items() if n in defined}
    else:
        raise HttpError(400, {"custom_fields": [_NOT_A_DICTIONARY]})
    for name in defined.keys() & values.keys():
        _check_custom(defined[name], values[name], resource, store, current)
    for name, custom in defined.items():
        if custom["required"] and name not in values:
            raise HttpError(400, {"__all__": [f"Missing required custom field '{name}'."]})
    defaults = {name: custom["default"] for name, custom in defined.items() if custom["default"] is not None}
    return defaults | values


def _check_custom(custom: Object, value: Any, resource: Resource, store: Store, current: Object | None) -> None:
    name = custom["name"]
    empty = value in (None, "")
    complaint = "" if empty else _complaint(custom, value)
    if empty and custom["required"]:
        complaint = "Required field cannot be empty."
    if complaint:
        raise HttpError(400, {"__all__": [f"Invalid value for custom field '{name}': {complaint}"]})
    if custom["unique"] and not empty:
        holders = [one for one in store.all(resource.type) if one["custom_fields"].get(name) == value]
        if _others(holders, current):
            raise HttpError(400, {"__all__": [f"Custom field '{name}' must have a unique value."]})


def _complaint(custom: Object, value: Any) -> str:
    match custom["type"]:
        case "text" | "longtext" | "url":
            if not isinstance(value, str):
                return "Value must be a string."
            if custom["validation_regex"] and not re.match(custom["validation_regex"], value):
                return f"Value must match regex '{custom['validation_regex']}'"
        case "integer":
            if isinstance(value, bool) or not isinstance(value, int):
                return "Value must be an integer."
        case "boolean":
            if value not in (True, False):
                return "Value must be true or false."
        case "date" | "datetime" as kind:
            try:
                (date if kind == "date" else datetime).fromisoformat(value)
            except (TypeError, ValueError):
                form = "(YYYY-MM-DD)" if kind == "date" else "(YYYY-MM-DD HH:MM:SS)"
                return f"{'Date' if kind == 'date' else 'Date and time'} values must be in ISO 8601 format {form}."
    return ""


def _check_duplicate_prefix(attributes: Object, store: Store, presenter: Presenter, current: Object | None) -> None:
    network = Network.parse(attributes["prefix"])
    if network.length == 0:
        raise HttpError(400, {"prefix": ["Cannot create prefix with /0 mask."]})
    same = [key for key in store.space.same(attributes["vrf"], network) if current is None or key != current["id"]]
    if same and _enforces_unique(attributes, store):
        table = _table(attributes, presenter)
        raise HttpError(400, {"prefix": [f"Duplicate prefix found in {table}: {network}"]})


def _check_duplicate_address(attributes: Object, store: Store, presenter: Presenter, current: Object | None) -> None:
    host = attributes["address"].partition("/")[0]
    same = _others(
        [
            one
            for one in store.all("ipam.ipaddress")
            if one["vrf"] == attributes["vrf"] and one["address"].partition("/")[0] == host
        ],
        current,
    )
    if same and _enforces_unique(attributes, store):
        table = _table(attributes, presenter)
        raise HttpError(400, {"address": [f"Duplicate IP address found in {table}: {same[0]['address']}"]})


def _enforces_unique(attributes: Object, store: Store) -> bool:
    vrf = store.get("ipam.vrf", attributes["vrf"]) if attributes["vrf"] else None
    return vrf is None or bool(vrf["enforce_unique"])


def _table(attributes: Object, presenter: Presenter) -> str:
    return f"VRF {presenter.nested('ipam.vrf', attributes['vrf'])['display']}" if attributes["vrf"] else "global table"
