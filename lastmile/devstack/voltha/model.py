"""What the stand-in for VOLTHA's core knows, and how its answers change it.

The behaviour is that of rw_core 3.7.13 with the OpenOLT adapter 4.7.3 and the OpenONU adapter 2.13.23, as recorded.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.empty_pb2 import Empty
from voltha_protos import logical_device_pb2, voltha_pb2
from voltha_protos import openflow_13_pb2 as of
from voltha_protos.adapter_pb2 import Adapter, Adapters
from voltha_protos.common_pb2 import AdminState, ConnectStatus, OperStatus
from voltha_protos.device_pb2 import Device, Devices, Port, Ports

from lastmile.errors import LastmileError

__all__ = ["Faults", "RpcError", "VolthaModel"]

Status = grpc.StatusCode

_NNI = 1 << 24
_PON = 1 << 29
_OLT_ADAPTER, _ONU_ADAPTER = "127.0.0.1:50061", "127.0.0.1:50062"
_WRITE_METADATA, _APPLY_ACTIONS, _METER = 2, 4, 6


class RpcError(LastmileError):
    """An answer with another gRPC status than OK."""

    def __init__(self, status: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.details = details


@dataclass
class Faults:
    """What goes wrong, until it is set back."""

    unavailable: bool = False
    """Every request fails with UNAVAILABLE, as while the core loads its devices."""
    slow_seconds: float = 0
    """The time that every answer takes in addition."""
    no_effect: bool = False
    """The core answers OK to changes of which nothing comes: flows are taken back, as when an adapter is away."""
    removals_fail: bool = False
    """An adapter does not carry out the removal of a flow. The core says so, and keeps the flow."""
    lost_reply: int | None = None
    """The number of requests that are answered before the reply to one is lost. None: no reply is lost."""
    onu_silent: bool = False
    """ONUs take over no flows: the OLT has them, and the `reason` of the ONU stays as it was."""

    def loses_reply(self) -> bool:
        """Return whether the next reply is lost, which is counted as one request."""
        if self.lost_reply is None:
            return False
        lost = self.lost_reply == 0
        self.lost_reply = None if lost else self.lost_reply - 1
        return lost


@dataclass
class _Table:
    """The OpenFlow tables of one logical device."""

    olt: str
    flows: dict[tuple[object, ...], Any] = field(default_factory=dict)
    meters: dict[int, Any] = field(default_factory=dict)


class VolthaModel:
    """The devices and tables of a core. Its methods beside `rpcs` are what happens in the network."""

    def __init__(self, new_id: Callable[[], str] = lambda: str(uuid4()), apply_seconds: float = 0.01) -> None:
        self.faults = Faults()
        self.devices: dict[str, Any] = {}
        self.tables: dict[str, _Table] = {}
        """By the id of the logical device."""
        self.rates: dict[int, int] = {}
        """The rate that the OLT enforces for each meter with flows, in kbit/s."""
        self.asked: list[str] = []
        """The requests, in order."""
        self._new_id = new_id
        self._apply_seconds = apply_seconds
        self._dark: set[str] = set()

    # What happens in the network.

    def add_olt(self, host_and_port: str = "127.0.0.1:50060") -> str:
        """Create an OLT, and enable it. Return the OLT's id."""
        olt = self._create_device(Device(type="openolt", host_and_port=host_and_port))
        self._enable_device(olt)
        return str(olt.id)

    def plug_in(self, serial: str, olt: str | None = None) -> str:
        """Connect an ONU with power to the OLT, which discovers and activates the ONU. Return the ONU's id."""
        olt = olt or next(device.id for device in self.devices.values() if device.root and device.parent_id)
        number = 1 + sum(device.parent_id == olt for device in self.devices.values())
        onu = Device(
            id=self._new_id(),
            type="brcm_openomci_onu",
            parent_id=olt,
            vendor="BBSM",
            model="v0.0.1",
            serial_number=serial,
            admin_state=AdminState.ENABLED,
            oper_status=OperStatus.ACTIVE,
            connect_status=ConnectStatus.REACHABLE,
            proxy_address=Device.ProxyAddress(
                device_id=olt, device_type="openolt", onu_id=number, adapter_endpoint=_OLT_ADAPTER
            ),
            parent_port_no=_PON,
            reason="initial-mib-downloaded",
            vendor_id="BBSM",
            adapter_endpoint=_ONU_ADAPTER,
        )
        self.devices[onu.id] = onu
        return str(onu.id)

    def onu(self, serial: str) -> Any:
        """Return the ONU's device."""
        return next(device for device in self.devices.values() if device.serial_number == serial)

    def cut_power(self, serial: str) -> None:
        """Take the ONU's power away."""
        onu = self.onu(serial)
        self._dark.add(onu.id)
        onu.connect_status, onu.oper_status = ConnectStatus.UNREACHABLE, OperStatus.DISCOVERED
        onu.reason = "stopping-openomci"

    def restore_power(self, serial: str) -> None:
        """Give the ONU power: it starts without the configuration that it had."""
        onu = self.onu(serial)
        self._dark.discard(onu.id)
        onu.connect_status = ConnectStatus.REACHABLE
        if onu.admin_state == AdminState.ENABLED:
            onu.oper_status, onu.reason = OperStatus.ACTIVE, "initial-mib-downloaded"

    def lose_flows(self) -> None:
        """Forget the flows, which the core does not store. It stores devices and meters."""
        for table in self.tables.values():
            table.flows.clear()

    def enable_again(self, serial: str) -> None:
        """Disable the ONU and enable it again, as an operator does: it keeps its flows."""
        onu = self.onu(serial)
        self._disable_device(onu)
        onu.admin_state = AdminState.ENABLED
        self._start(onu)

    # What the core answers.

    def rpcs(self) -> dict[str, Callable[[Any], Any]]:
        """Return what answers each request, by its name in the service."""
        return {
            "GetVoltha": lambda _: voltha_pb2.Voltha(version=json.dumps({"version": "3.7.13"})),
            "ListAdapters": self._list_adapters,
            "CreateDevice": self._create_device,
            "GetDevice": lambda request: self._device(request.id),
            "ListDevices": lambda _: Devices(items=self.devices.values()),
            "EnableDevice": self._enable_device,
            "DisableDevice": self._disable_device,
            "DeleteDevice": self._delete_device,
            "ListDevicePorts": self._list_device_ports,
            "ListLogicalDevicePorts": self._list_logical_device_ports,
            "ListLogicalDeviceFlows": lambda request: of.Flows(items=self._table(request.id).flows.values()),
            "ListLogicalDeviceMeters": lambda request: of.Meters(items=self._table(request.id).meters.values()),
            "UpdateLogicalDeviceFlowTable": self._update_flow_table,
            "UpdateLogicalDeviceMeterTable": self._update_meter_table,
        }

    def _device(self, device_id: str) -> Any:
        if device_id not in self.devices:
            raise RpcError(Status.NOT_FOUND, device_id)
        return self.devices[device_id]

    def _table(self, logical_id: str) -> _Table:
        if logical_id not in self.tables:
            raise RpcError(Status.NOT_FOUND, logical_id)
        return self.tables[logical_id]

    def _list_adapters(self, _: Any) -> Any:
        common = {"version": "unknown-version", "currentReplica": 1, "totalReplicas": 1}
        onu = Adapter(
            id="brcm_openomci_onu_1",
            vendor="VOLTHA OpenONUGo",
            type="brcm_openomci_onu",
            endpoint=_ONU_ADAPTER,
            **common,
        )
        olt = Adapter(id="openolt_1", vendor="VOLTHA OpenOLT", type="openolt", endpoint=_OLT_ADAPTER, **common)
        return Adapters(items=[onu, olt])

    def _create_device(self, request: Any) -> Any:
        if any(device.host_and_port == request.host_and_port for device in self.devices.values() if device.root):
            raise RpcError(Status.UNKNOWN, "device is already pre-provisioned")
        device = Device(
            id=self._new_id(),
            type=request.type,
            root=True,
            admin_state=AdminState.PREPROVISIONED,
            host_and_port=request.host_and_port,
        )
        self.devices[device.id] = device
        return device

    def _enable_device(self, request: Any) -> Any:
        device = self._device(request.id)
        if device.admin_state == AdminState.ENABLED:
            raise RpcError(Status.FAILED_PRECONDITION, f"cannot-enable-an-already-enabled-device: {device.id}")
        device.admin_state, device.oper_status = AdminState.ENABLED, OperStatus.ACTIVATING
        if device.root:
            device.oper_status, device.connect_status = OperStatus.ACTIVE, ConnectStatus.REACHABLE
            device.parent_id = device.parent_id or self._new_id()
            self.tables.setdefault(device.parent_id, _Table(device.id))
        else:
            self._later(lambda: self._start(device))
        return Empty()

    def _start(self, onu: Any) -> None:
        if onu.admin_state != AdminState.ENABLED:
            return
        if onu.id in self._dark:
            onu.oper_status = OperStatus.DISCOVERED
        else:
            onu.oper_status, onu.reason = OperStatus.ACTIVE, "onu-reenabled"

    def _disable_device(self, request: Any) -> Any:
        device = self._device(request.id)
        if device.admin_state == AdminState.PREPROVISIONED:
            raise RpcError(
                Status.FAILED_PRECONDITION, f"deviceId:{device.id}, invalid-admin-state:{device.admin_state}"
            )
        if device.admin_state != AdminState.DISABLED and not self.faults.no_effect:
            device.admin_state, device.oper_status = AdminState.DISABLED, OperStatus.UNKNOWN
            device.reason = "omci-admin-lock"
        return Empty()

    def _delete_device(self, request: Any) -> Any:
        device = self._device(request.id)
        children = [one for one in self.devices.values() if one.parent_id == device.id]
        for gone in [device, *children]:
            del self.devices[gone.id]
        if device.root:
            self.tables.pop(device.parent_id, None)
        elif device.id not in self._dark:
            self._later(lambda: self.plug_in(device.serial_number, device.parent_id))
        return Empty()

    def _list_device_ports(self, request: Any) -> Any:
        device = self._device(request.id)
        if device.root:
            nni = Port(port_no=_NNI, label=f"nni-{_NNI}", type=Port.ETHERNET_NNI, device_id=device.id)
            return Ports(items=[nni])
        common = {"admin_state": AdminState.ENABLED, "oper_status": OperStatus.ACTIVE, "device_id": device.id}
        uni, peer = _uni(device), Port.PeerPort(device_id=device.parent_id, port_no=_PON)
        return Ports(
            items=[
                Port(port_no=uni, label=f"uni-{uni}", type=Port.ETHERNET_UNI, ofp_port=_uni_port(device, 1), **common),
                Port(port_no=_PON, label=f"pon-{_PON}", type=Port.PON_ONU, peers=[peer], **common),
            ]
        )

    def _list_logical_device_ports(self, request: Any) -> Any:
        olt = self._table(request.id).olt
        speed = {"curr": 4160, "advertised": 4160, "peer": 4160, "curr_speed": 10_000_000, "max_speed": 10_000_000}
        nni = logical_device_pb2.LogicalPort(
            id=f"nni-{_NNI}",
            ofp_port=of.ofp_port(port_no=_NNI, hw_addr=[10, 10, 10, 10, 10, 0], name=f"nni-{_NNI}", state=4, **speed),
            device_id=olt,
            device_port_no=_NNI,
            root_port=True,
            ofp_port_stats=of.ofp_port_stats(),
        )
        unis = [
            logical_device_pb2.LogicalPort(
                id=f"uni-{_uni(onu)}",
                ofp_port=_uni_port(onu, 4, port_no=_uni(onu)),
                device_id=onu.id,
                device_port_no=_uni(onu),
                ofp_port_stats=of.ofp_port_stats(),
            )
            for onu in self.devices.values()
            if onu.parent_id == olt
        ]
        return logical_device_pb2.LogicalPorts(items=[nni, *unis])

    def _update_meter_table(self, request: Any) -> Any:
        table, change = self._table(request.id), request.meter_mod
        config = of.ofp_meter_config(flags=change.flags, meter_id=change.meter_id, bands=change.bands)
        entry = of.ofp_meter_entry(config=config, stats=of.ofp_meter_stats(meter_id=change.meter_id))
        if change.command == of.OFPMC_ADD:
            table.meters.setdefault(change.meter_id, entry)  # an existing meter stays as it is
        elif change.command == of.OFPMC_DELETE and self.faults.no_effect:
            pass
        elif change.command == of.OFPMC_DELETE:
            table.meters.pop(change.meter_id, None)
            for key in [key for key, flow in table.flows.items() if _meter(flow) == change.meter_id]:
                self._drop(table, key)
        elif change.meter_id in table.meters:
            table.meters[change.meter_id] = entry  # the OLT goes on with the rate that it has
        else:
            raise RpcError(Status.UNKNOWN, f"no-meter-to-modify: {change.meter_id}, logical-device-id: {request.id}")
        return Empty()

    def _update_flow_table(self, request: Any) -> Any:
        table, change = self._table(request.id), request.flow_mod
        key = _key(change)
        if change.command == of.OFPFC_DELETE_STRICT:
            if self.faults.removals_fail:
                raise RpcError(Status.ABORTED, "failed deleting flows")
            if not self.faults.no_effect:
                self._drop(table, key)
            return Empty()
        flow = of.ofp_flow_stats(
            table_id=change.table_id,
            priority=change.priority,
            cookie=change.cookie,
            match=change.match,
            instructions=change.instructions,
        )
        before = table.flows.get(key)
        if flow != before:
            table.flows[key] = flow
            self._later(lambda: self._apply(table, key, flow, before))
        return Empty()

    def _apply(self, table: _Table, key: tuple[object, ...], flow: Any, before: Any) -> None:
        """Bring the flow to the OLT and the ONU, or take it back: the core has said OK before."""
        if table.flows.get(key) is not flow:
            return
        onu, meter = self._onu_of(flow, table), _meter(flow)
        works = onu is None or (onu.oper_status == OperStatus.ACTIVE and meter in table.meters)
        same_meter = before is None or _meter(before) == meter  # the OLT does not change the meter of a flow
        if self.faults.no_effect or not works or not same_meter:
            self._drop(table, key)
            if before is not None:
                table.flows[key] = before
            return
        if onu is not None:
            onu.reason = onu.reason if self.faults.onu_silent else "omci-flows-pushed"
            self.rates.setdefault(meter, table.meters[meter].config.bands[-1].rate)

    def _drop(self, table: _Table, key: tuple[object, ...]) -> None:
        flow = table.flows.pop(key, None)
        if flow is not None and not any(_meter(other) == _meter(flow) for other in table.flows.values()):
            self.rates.pop(_meter(flow), None)

    def _onu_of(self, flow: Any, table: _Table) -> Any | None:
        ports = {_uni(onu): onu for onu in self.devices.values() if onu.parent_id == table.olt}
        return next((ports[port] for port in _ports(flow) if port in ports), None)

    def _later(self, act: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(self._apply_seconds, act)


def _uni(onu: Any) -> int:
    return int(onu.proxy_address.onu_id) << 8


def _uni_port(onu: Any, state: int, port_no: int = 0) -> Any:
    speed = {"curr": 2080, "advertised": 2080, "peer": 2080, "curr_speed": 1000, "max_speed": 1000}
    address = [8, 0, 0, 0, onu.proxy_address.onu_id, 0]
    return of.ofp_port(port_no=port_no, hw_addr=address, name=f"{onu.serial_number}-1", state=state, **speed)


def _key(flow: Any) -> tuple[object, ...]:
    """Return what the core computes the id of a flow from: the table, the priority and the match."""
    return flow.table_id, flow.priority, *sorted(one.SerializeToString() for one in flow.match.oxm_fields)


def _meter(flow: Any) -> int:
    return next((int(one.meter.meter_id) for one in flow.instructions if one.type == _METER), 0)


def _ports(flow: Any) -> list[int]:
    """Return the ports of a flow: where frames come from, and where they go to."""
    ports = [one.ofb_field.port for one in flow.match.oxm_fields if one.ofb_field.type == of.OFPXMT_OFB_IN_PORT]
    for one in flow.instructions:
        if one.type == _WRITE_METADATA:
            ports.append(one.write_metadata.metadata & 0xFFFFFFFF)
        elif one.type == _APPLY_ACTIONS:
            ports += [action.output.port for action in one.actions.actions if action.type == of.OFPAT_OUTPUT]
    return ports
