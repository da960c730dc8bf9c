"""Lines of every kind and changes of them, generated; each change is followed by its opposite, the last one first.

A change gives fields of the line other values. Its opposite gives the same fields the values that they had before.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.contract import AnyOrder, OrderResult, ResultStatus
from lastmile.contract.addressing import Addressing, Purpose
from lastmile.contract.line_states import LineState
from lastmile.contract.lines import IpoeIdentity, Line, Option82Policy
from lastmile.contract.operations import OPERATIONS, LineEffect, operations_that
from lastmile.contract.orders import Operation
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.contract.suspension import SuspensionMode
from lastmile.radius.escaping import unescaped
from tests.support.faults import refused
from tests.support.orders import NEW_PLAN, PLAN, Orders, log_in, what_is_there
from tests.workflows.every_way.environment import CaseEnvironment

__all__ = ["Life", "live", "lives"]

FIELDS = {
    Operation.UPDATE_CUSTOMER: ("name", "email", "phone"),
    Operation.TRANSFER: ("customer",),
    Operation.ROTATE_CREDENTIALS: ("password",),
    Operation.REPLACE_DEVICE: ("onu_serial", "onu_type", "speed_profile", "cpe_mac", "cpe_serial", "duid"),
    Operation.RELOCATE: ("olt", "pon_port", "s_vlan", "c_vlan", "circuit_id", "remote_id", "speed_profile"),
    Operation.CHANGE_PLAN: ("plan",),
    Operation.CHANGE_ADDRESSING: ("addressing",),
    Operation.RENUMBER: ("prefix",),
    Operation.SUSPEND: ("mode",),
    Operation.RESUME: ("mode",),
}
"""What each order changes."""

OPPOSITES = {
    Operation.SUSPEND: Operation.RESUME,
    Operation.RESUME: Operation.SUSPEND,
    Operation.RENUMBER: Operation.CHANGE_ADDRESSING,  # names the former prefix
}
"""The operations whose opposite is another one."""

VALUES: Mapping[str, Callable[[int, int], Any]] = {
    "name": lambda _, nth: f"Ada Example {nth}",
    "email": lambda _, nth: f"ada{nth}@example.net",
    "phone": lambda _, nth: f"+1 555 010{nth}",
    "password": lambda _, nth: f'pass "word" {nth}',
    "plan": lambda _, nth: (PLAN, NEW_PLAN, PLAN.model_copy(update={"price_ref": "P-499"}))[nth],
    "username": lambda number, nth: f"ada{nth}@isp{number}.example",
    "onu_serial": lambda number, nth: f"ACME{number:04X}{nth:04X}",
    "onu_type": lambda _, nth: f"F 66{nth}",
    "speed_profile": lambda _, nth: f"{nth}00M",
    "cpe_oui": lambda _, nth: f"00D09{nth}",
    "cpe_product_class": lambda _, nth: f"HGW-{nth}",
    "cpe_serial": lambda number, nth: f"CPE{number:04X}{nth}",
    "duid": lambda _, nth: f"00:03:00:01:0{nth}",
    "cpe_mac": lambda number, nth: f"02:00:{number >> 8:02x}:{number & 255:02x}:00:{nth:02x}",
    "olt": lambda _, nth: f"olt-{nth}",
    "pon_port": lambda _, nth: f"1/1/{nth}",
    "s_vlan": lambda _, nth: 100 + nth,
    "c_vlan": lambda _, nth: 200 + nth,
    "circuit_id": lambda number, nth: f"t{number} eth 1/1#{nth}",
    "remote_id": lambda number, nth: f"r{number}|{nth}",
}
"""The nth value of a field in the tenant with this number. RADIUS user names are made of some: each exists once."""

OF_CUSTOMER = ("name", "email", "phone")
OF_LINE = ("onu_serial", "onu_type", "cpe_mac", "cpe_serial", "duid", *FIELDS[Operation.RELOCATE])

TR069 = ("cpe_oui", "cpe_product_class")
WHOLE = (
    (("onu_serial",), ("onu_serial", "onu_type")),
    (("cpe_mac", "cpe_serial"), ("cpe_mac", "cpe_serial", "duid")),
)
"""The fields that name a device, and all fields that the line loses with that device: its opposite names them all."""

ADDRESSINGS: tuple[dict[str, Any], ...] = (
    {"ipv6_mode": "pd"},
    {"enable_ipv6": False},
    {"ipv6_mode": "dual_stack", "ipv4_mode": "static"},
    {"ipv6_mode": "dual_stack", "ipv4_mode": "dynamic", "ipv6_pd_size": 48},
    {"enable_ipv6": False, "ipv4_mode": "static"},
    {"ipv6_mode": "slaac", "ipv4_mode": "static"},
    {"ipv6_mode": "pd", "ipv6_pool": "second"},
    {"ipv6_mode": "pd", "vrf": "blue"},
)

WRITTEN_AGAIN: Mapping[str, tuple[str, ...]] = {
    "open suspensions": ("id", "created_by_order", "created_at"),
    "billing_services": ("suspended_by_order",),
    "held delegations": ("id", "netbox_id", "allocation_key", "created_by_order", "created_at"),
    "taken slots": ("delegation_id", "free_at"),
    **dict.fromkeys(("radcheck", "radreply", "radusergroup"), ("id",)),
}
"""What a row, written again by the opposite, says about its order and its time: history."""

_nth = st.integers(0, 2)


@dataclass(frozen=True)
class Change:
    """An order, with the new values of its fields: the nth of `VALUES`, or the value itself."""

    operation: Operation
    values: dict[str, Any]
    fails_after: str = ""
    """The step after which such an order fails first: it leaves the line as it was."""


@dataclass(frozen=True)
class Life:
    """A line, with the values of its fields as in `Change`, and what happens to it."""

    line: dict[str, Any]
    changes: tuple[Change, ...]
    online: bool
    """The line has a session on a NAS that accepts every request."""


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Return a line of any kind, and up to four changes, each in a state of the line that allows it."""
    line = draw(_lines())
    now, changes = dict(line), []
    for _ in range(draw(st.integers(1, 4))):
        change = draw(_changes(now))
        now |= change.values
        changes.append(change)
    return Life(line, tuple(changes), draw(st.booleans()))


@st.composite
def _lines(draw: st.DrawFn) -> dict[str, Any]:
    identity = draw(st.none() | st.sampled_from(IpoeIdentity))
    ipoe = identity is not None or draw(st.booleans())
    policy = draw(st.sampled_from(Option82Policy))
    needed = {*(identity.fields if identity else ()), *(["circuit_id"] if policy is Option82Policy.ENFORCE else ())}
    of_line = {field: draw(_nth if field in needed else st.none() | _nth) for field in OF_LINE}
    return {
        "connection_type": draw(st.sampled_from(["ftth", "fttb"])),
        "access": "ipoe" if ipoe else "pppoe",
        "identified_by": identity,
        "username": None if identity else 0 if ipoe else draw(st.none() | _nth),
        "password": None if ipoe else draw(st.none() | _nth),
        "option82_policy": policy,
        **dict.fromkeys(TR069),
        **of_line,
        **_tr069(of_line["cpe_serial"]),
        **dict.fromkeys((*OF_CUSTOMER, "plan", "customer"), 0),
        "addressing": draw(st.sampled_from(ADDRESSINGS)),
        "mode": draw(st.none() | st.sampled_from(SuspensionMode)),
    }


@st.composite
def _changes(draw: st.DrawFn, now: dict[str, Any]) -> Change:
    """Return a change of the line as it is now."""
    state = LineState.SUSPENDED if now["mode"] else LineState.IN_SERVICE
    allowed = {
        operation: fields
        for operation in operations_that(LineEffect.CHANGES)
        if state not in OPERATIONS[operation].refused_in and (fields := _changeable(now, operation))
    }
    operation = draw(st.sampled_from([*allowed]))
    values = {
        field: draw(_new_value(now, operation, field))
        for field in draw(st.lists(st.sampled_from(allowed[operation]), min_size=1, unique=True))
    }
    if operation is Operation.REPLACE_DEVICE:
        values |= {
            field: draw(_nth)
            for names, fields in WHOLE
            if not values.keys().isdisjoint(names)
            for field in fields
            if now[field] is not None and field not in values
        }
        values |= _tr069(values.get("cpe_serial"))
    if operation is Operation.CHANGE_PLAN:
        values["speed_profile"] = draw(st.none() | _nth)
    if operation is Operation.TRANSFER:
        values |= dict.fromkeys(OF_CUSTOMER, 0)
    steps = OPERATIONS[operation].steps
    undone = [step.name for step in steps[: next((at for at, step in enumerate(steps) if step.pivot), len(steps))]]
    return Change(operation, values, draw(st.just("") | st.sampled_from(undone)))


def _tr069(serial: int | None) -> dict[str, Any]:
    """Return the fields that identify a CPE together with its serial number."""
    return {} if serial is None else dict.fromkeys(TR069, serial)


def _changeable(now: dict[str, Any], operation: Operation) -> list[str]:
    """Return the fields that the order can change. A field without a value has none: no order takes a value away."""
    missing = {field for field in OF_LINE if now[field] is None}
    if now["access"] == "ipoe":
        missing.add("password")
    if not Addressing(**now["addressing"]).needs():
        missing.add("prefix")
    return [field for field in FIELDS[operation] if field not in missing]


def _new_value(now: dict[str, Any], operation: Operation, field: str) -> st.SearchStrategy[Any]:
    match field:
        case "customer":
            return st.just(now["customer"] + 1)  # a new one: the data of a known customer stays
        case "addressing":
            return st.sampled_from(ADDRESSINGS)
        case "prefix":
            purposes = [need.purpose for need in Addressing(**now["addressing"]).needs()]
            return st.sampled_from(purposes).map(lambda purpose: {"purpose": purpose})
        case "mode":
            return st.none() if operation is Operation.RESUME else st.sampled_from(SuspensionMode)
        case _:
            return _nth


async def live(env: CaseEnvironment, life: Life) -> None:
    """Play a life: its changes, their opposites, and the end of the line.

    Raises:
        AssertionError: an order fails, or a change and its opposite leave something else than was there before.
    """
    line = await _provisioned(env, life)
    done: list[tuple[Change, dict[str, Any], Any]] = []
    for change in life.changes:
        before, former = await line.remains(), dict(line.values)
        if change.fails_after:
            await line.order(change.operation, line.real(change.values), fails_after=change.fails_after)
            assert await line.remains() == before, f"after {change}, which failed"
        await line.order(change.operation, line.real(change.values))
        done.append((change, former, before))
    for change, former, before in reversed(done):
        operation = OPPOSITES.get(change.operation, change.operation)
        fields = change.values if operation is change.operation else FIELDS[operation]
        await line.order(operation, {field: former[field] for field in fields})
        assert await line.remains() == before, f"after the opposite of {change}"
    await line.check()
    await line.order(Operation.DEPROVISION, {})
    left = await what_is_there(env.owner, line.orders.tenant)
    assert not {name for name in ("held delegations", "taken slots", "radcheck", "radreply") if left[name]}
    await line.check()


class _Line:
    """The only line of a tenant, and the values that its fields have now."""

    def __init__(self, env: CaseEnvironment, orders: Orders, number: int) -> None:
        self.orders = orders
        self.values: dict[str, Any] = {}
        self._env = env
        self._number = number
        self._sent = 0

    def real(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that nth values stand for."""
        return {
            field: VALUES[field](self._number, value) if field in VALUES and value is not None else value
            for field, value in values.items()
        }

    async def order(self, operation: Operation, values: dict[str, Any], fails_after: str = "") -> None:
        """Give the fields these values. Raises `AssertionError` where the order ends in another way than it should."""
        self._sent += 1
        order_id = f"{self.orders.tenant}-{self._sent}"
        order: AnyOrder = OPERATIONS[operation].model(
            tenant=self.orders.tenant,
            order_id=order_id,
            subscriber_ref=self.orders.ref,
            **_content(operation, values),
        )
        if fails_after:
            self._env.faults.after[order_id, fails_after] = refused
        result = await self._env.lastmile.execute(order)
        expected = ResultStatus.ROLLED_BACK if fails_after else ResultStatus.COMPLETED
        assert result.status is expected, f"{order!r}: {result.reason or result.warnings}"
        if not fails_after:
            self.values |= values
            if operation in (Operation.PROVISION, Operation.CHANGE_ADDRESSING, Operation.RENUMBER):
                self.values["addressing"] = _exact(self.values["addressing"], result)

    async def remains(self) -> dict[str, Any]:
        """Return what the database, RADIUS and NetBox have of the line, without histories."""
        rows = {
            name: list(map(json.loads, found))
            for name, found in (await what_is_there(self._env.owner, self.orders.tenant)).items()
        }
        owners = {row["customer_id"] for row in rows["subscribers"]}
        rows["customers"] = [row for row in rows["customers"] if row["id"] in owners]  # a former customer stays
        for name, columns in WRITTEN_AGAIN.items():
            rows[name] = sorted(({key: row[key] for key in row if key not in columns} for row in rows[name]), key=str)
        if self._env.pools:
            rows["NetBox"] = await self._env.pools.shown(self._env.database, self.orders.tenant)
        if self._env.controllers:
            rows["devices that are on"] = self._env.controllers.on(self.orders.tenant)
        return rows

    async def check(self) -> None:
        """Raise `AssertionError` where the audit, or a reconciliation with NetBox, finds something."""
        tenant = self.orders.tenant
        wrong = [f"{found.invariant.name}: {found.words}" async for found in check(self._env.database, tenant)]
        wrong += await self._env.pools.wrong(self._env.database, tenant) if self._env.pools else []
        assert not wrong


async def _provisioned(env: CaseEnvironment, life: Life) -> _Line:
    orders = await env.tenant(f"S-{uuid.uuid4().hex[:12]}")
    number = int(re.sub(r"\D", "", orders.tenant))
    async with env.database.platform() as platform:
        for name, prefix, purpose, length in (
            ("second", f"3fff:0:{number:x}::/48", Purpose.IPV6_PD, 56),
            ("business", f"3fff:1:{number << 4:x}::/44", Purpose.IPV6_PD, 48),
            ("framed", f"3fff:2:{number:x}::/56", Purpose.IPV6_FRAMED, 64),
            ("static", f"10.{number >> 8}.{number & 255}.0/28", Purpose.IPV4, 32),
            ("blue", f"2001:db8:{number:x}::/48", Purpose.IPV6_PD, 56),
        ):
            pool = {"name": name, "prefix": prefix, "purpose": purpose, "delegated_length": length}
            vrf = "blue" if name == "blue" else ""
            await add_pool(platform, Pool(tenant=orders.tenant, vrf=vrf, **pool))
    line = _Line(env, orders, number)
    await line.order(Operation.PROVISION, line.real(life.line))
    user, password = await env.owner.fetchrow(
        "SELECT username, value FROM radcheck WHERE tenant_id = $1 AND lastmile_is_account(attribute, value)",
        orders.tenant,
    )
    line.values["password"] = password
    if life.online:
        await log_in(env.owner, orders, f"{orders.tenant}-1", env.nas, user)
        env.nas.sessions[f"{orders.tenant}-1"] = {"User-Name": unescaped(user)}
    if life.line["mode"]:
        await line.order(Operation.SUSPEND, {"mode": life.line["mode"]})
    return line


def _content(operation: Operation, values: dict[str, Any]) -> dict[str, Any]:
    """Return the order's own fields, for these values of the line's."""
    owner = {"ref": f"C-{values.get('customer')}", **{field: values.get(field) for field in OF_CUSTOMER}}
    match operation:
        case Operation.PROVISION:
            own = {field: values[field] for field in ("plan", "addressing", "password")}
            return own | {"customer": owner, "line": {field: values[field] for field in Line.model_fields}}
        case Operation.TRANSFER:
            return {"customer": owner}
        case Operation.SUSPEND:
            return values | {"reason": "non-payment"}
        case Operation.RENUMBER:
            return values["prefix"] | {"overlap_hours": 0}
        case Operation.DEPROVISION:
            return {"reason": "moved away"}
        case Operation.RESUME:
            return {}
        case _:
            return values


def _exact(addressing: dict[str, Any], result: OrderResult) -> dict[str, Any]:
    """Return the addressing with the very addresses of the result."""
    exact = {field: value for field, value in addressing.items() if not field.endswith("_pool")}
    given = {purpose: getattr(result.created, field) for purpose, field in ADDRESS_FIELDS.items()}
    named = {
        "ipv4_address" if purpose.family == 4 else "ipv6_prefix": found for purpose, found in given.items() if found
    }
    return exact | named
