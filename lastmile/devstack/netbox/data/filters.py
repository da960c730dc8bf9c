"""The filters of a list by the query string.

As in NetBox, unknown and empty parameters are ignored. An invalid value is refused, except in a filter by prefix, where
it matches no object.
"""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.http.http_errors import HttpError, InvalidValueError
from lastmile.devstack.netbox.model.fields import Choice, Flag, Number, Object, Ref, Refs, Text
from lastmile.devstack.netbox.model.networks import Network
from lastmile.devstack.netbox.model.resource import Resource
from lastmile.devstack.netbox.model.resources import BY_TYPE, CUSTOM_FIELD

__all__ = ["Query", "apply"]

Query = Mapping[str, Sequence[str]]
Test = Callable[[Object], bool]
Filter = Callable[[Sequence[str]], Test]

# The comparison of texts by the suffix of the parameter. Several values are alternatives, or all excluded with `n…`.
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "": lambda have, want: have == want,
    "ie": lambda have, want: have.lower() == want.lower(),
    "ic": lambda have, want: want.lower() in have.lower(),
    "isw": lambda have, want: have.lower().startswith(want.lower()),
    "iew": lambda have, want: have.lower().endswith(want.lower()),
    "regex": lambda have, want: re.search(want, have) is not None,
    "iregex": lambda have, want: re.search(want, have, re.IGNORECASE) is not None,
}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def apply(resource: Resource, query: Query, store: Store) -> list[Object]:
    """Return the objects that pass every filter of the query, in NetBox's order.

    Raises:
        HttpError: 400, with NetBox's message for each invalid value.
    """
    known = dict(_filters(resource, store))
    tests, complaints = [], {}
    for name, values in query.items():
        given = [value for value in values if value]
        if name not in known or not given:
            continue
        try:
            tests.append(known[name](given))
        except InvalidValueError as error:
            complaints[name] = error.messages
    if complaints:
        raise HttpError(400, complaints)
    found = [stored for stored in store.all(resource.type) if all(test(stored) for test in tests)]
    return _ordered(resource, found, query.get("ordering", ()))


def _ordered(resource: Resource, found: list[Object], ordering: Sequence[str]) -> list[Object]:
    found.sort(key=resource.order)
    for name in reversed(",".join(ordering).split(",")):
        attribute = name.removeprefix("-")
        if attribute in ("id", "created", "last_updated", *resource.fields):
            found.sort(key=lambda stored: (stored[attribute] is not None, stored[attribute]), reverse=name[:1] == "-")
    return found


def _filters(resource: Resource, store: Store) -> Iterator[tuple[str, Filter]]:
    yield from _numbers("id", lambda stored: stored["id"])
    for name in ("created", "last_updated", "time"):
        yield from _times(name)
    yield "time_after", _times_filter("time", operator.ge)
    yield "time_before", _times_filter("time", operator.le)
    for name, field in resource.fields.items():
        match field:
            case Choice():
                yield name, _choice(name, field)
            case Ref():
                yield from _ref(name, BY_TYPE[field.to], store)
            case Refs(to="extras.tag"):
                yield from _tags(store)
            case Flag():
                yield name, _flag(name)
            case Number():
                yield from _numbers(name, operator.itemgetter(name))
            case Text():
                yield from _text(name, operator.itemgetter(name))
    if resource.custom_fields:
        for custom in store.all(CUSTOM_FIELD.type):
            if resource.type in custom["object_types"]:
                yield from _custom(custom)
    if resource.type == "core.objectchange":
        yield "changed_object_type", lambda values: lambda stored: stored["changed_object_type"] in values
    yield from _special(resource, store)


def _special(resource: Resource, store: Store) -> Iterator[tuple[str, Filter]]:
    if resource.type == "ipam.prefix":
        networks = store.networks

        def of(stored: Object) -> Network:
            return networks[stored["id"]]

        yield "prefix", _network(of, lambda have, want: have == want)
        yield "within", _network(of, lambda have, want: have != want and want.contains(have))
        yield "within_include", _network(of, lambda have, want: want.contains(have))
        yield "contains", _network(of, lambda have, want: have.contains(want))
        yield "q", _search(of)
        yield "family", _number_filter(lambda stored: of(stored).family, operator.eq)
        yield from _numbers("mask_length", lambda stored: of(stored).length)
        yield from _numbers("depth", lambda stored: store.space.depth(stored["vrf"], of(stored)))
        yield from _numbers("children", lambda stored: store.space.children(stored["vrf"], of(stored)))
    elif resource.type == "ipam.ipaddress":

        def host(stored: Object) -> Network:
            return Network.parse(stored["address"].partition("/")[0])

        yield "parent", _network(host, lambda have, want: want.contains(have))
        yield "address", lambda values: lambda stored: stored["address"] in values
        yield "family", _number_filter(lambda stored: host(stored).family, operator.eq)


def _network(of: Callable[[Object], Network], matches: Callable[[Network, Network], bool]) -> Filter:
    def test(values: Sequence[str]) -> Test:
        requested = list(_parsed(values))
        return lambda stored: any(matches(of(stored), want) for want in requested)

    return test


def _search(of: Callable[[Object], Network]) -> Filter:
    def test(values: Sequence[str]) -> Test:
        requested = list(_parsed(values))
        text = values[-1].strip().lower()
        return lambda stored: (
            text in stored["description"].lower()
            or text in stored["prefix"]
            or any(of(stored).contains(want) for want in requested)
        )

    return test


def _parsed(values: Iterable[str]) -> Iterator[Network]:
    for value in values:
        try:
            yield Network.parse(value)
        except ValueError:
            continue


def _choice(name: str, field: Choice) -> Filter:
    def test(values: Sequence[str]) -> Test:
        _refuse_unknown(values, field.labels)
        return lambda stored: stored[name] in values

    return test


def _refuse_unknown(values: Iterable[str], known: Iterable[str]) -> None:
    choices = set(known)
    for value in values:
        if value not in choices:
            raise InvalidValueError(f"Select a valid choice. {value} is not one of the available choices.")


def _ref(name: str, to: Resource, store: Store) -> Iterator[tuple[str, Filter]]:
    natural = "rd" if to.type == "ipam.vrf" else "username" if to.type == "users.user" else "slug"

    def test(attribute: str) -> Filter:
        def by(values: Sequence[str]) -> Test:
            ids: dict[str, Any] = {str(other[attribute]): other["id"] for other in store.all(to.type)} | {"null": None}
            _refuse_unknown(values, ids)
            requested = {ids[value] for value in values}
            return lambda stored: stored[name] in requested

        return by

    yield name, test(natural)
    yield f"{name}_id", test("id")


def _tags(store: Store) -> Iterator[tuple[str, Filter]]:
    def test(attribute: str) -> Filter:
        def by(values: Sequence[str]) -> Test:
            ids = {str(tag[attribute]): tag["id"] for tag in store.all("extras.tag")}
            _refuse_unknown(values, ids)
            requested = {ids[value] for value in values}
            return lambda stored: requested <= set(stored["tags"])

        return by

    yield "tag", test("slug")
    yield "tag_id", test("id")


def _flag(name: str) -> Filter:
    def test(values: Sequence[str]) -> Test:
        requested = {"true": True, "1": True, "false": False, "0": False}.get(values[-1].lower())
        return lambda stored: requested is None or stored[name] is requested

    return test


def _numbers(name: str, of: Callable[[Object], Any]) -> Iterator[tuple[str, Filter]]:
    for suffix, compare in _ORDER.items():
        yield f"{name}__{suffix}" if suffix else name, _number_filter(of, compare)
    yield f"{name}__n", _excluded(_number_filter(of, operator.eq))


def _number_filter(of: Callable[[Object], Any], compare: Callable[[Any, Any], bool]) -> Filter:
    def test(values: Sequence[str]) -> Test:
        try:
            requested = [int(value) for value in values]
        except ValueError:
            raise InvalidValueError("Enter a whole number.") from None
        return lambda stored: of(stored) is not None and any(compare(of(stored), want) for want in requested)

    return test


def _times(name: str) -> Iterator[tuple[str, Filter]]:
    for suffix, compare in _ORDER.items():
        yield f"{name}__{suffix}" if suffix else name, _times_filter(name, compare)


def _times_filter(name: str, compare: Callable[[Any, Any], bool]) -> Filter:
    def test(values: Sequence[str]) -> Test:
        try:
            requested = [_utc(value) for value in values]
        except ValueError:
            raise InvalidValueError("Enter a valid date/time.") from None
        return lambda stored: any(compare(_utc(stored[name]), want) for want in requested)

    return test


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _text(name: str, of: Callable[[Object], Any], default: str = "") -> Iterator[tuple[str, Filter]]:
    for suffix, compare in _TEXT.items():
        found = _text_filter(of, compare)
        yield f"{name}__{suffix}" if suffix else name, _text_filter(of, _TEXT[default]) if not suffix else found
        yield f"{name}__n{suffix}", _excluded(found)
    yield f"{name}__empty", _empty(of)


def _text_filter(of: Callable[[Object], Any], compare: Callable[[str, str], bool]) -> Filter:
    return lambda values: (
        lambda stored: of(stored) is not None and any(compare(str(of(stored)), want) for want in values)
    )


def _excluded(requested: Filter) -> Filter:
    def test(values: Sequence[str]) -> Test:
        excluded = requested(values)
        return lambda stored: not excluded(stored)

    return test


def _empty(of: Callable[[Object], Any]) -> Filter:
    return lambda values: lambda stored: (of(stored) in (None, "")) is (values[-1].lower() in ("true", "1"))


def _custom(custom: Object) -> Iterator[tuple[str, Filter]]:
    name = custom["name"]

    def of(stored: Object) -> Any:
        return stored["custom_fields"].get(name)

    match custom:
        case {"filter_logic": "disabled"}:
            return
        case {"type": "integer"}:
            yield from _numbers(f"cf_{name}", of)
        case {"type": "boolean"}:
            yield f"cf_{name}", lambda values: lambda stored: of(stored) is (values[-1].lower() in ("true", "1"))
        case {"filter_logic": logic}:
            yield from _text(f"cf_{name}", of, "ic" if logic == "loose" else "")
