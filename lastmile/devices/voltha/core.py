"""Requests to VOLTHA's core over gRPC: bounded, timed, each failure as an error of Lastmile in Lastmile's words."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.empty_pb2 import Empty
from voltha_protos import common_pb2, openflow_13_pb2
from voltha_protos.voltha_pb2_grpc import VolthaServiceStub

from lastmile.devices.drivers import Endpoint
from lastmile.devices.errors import ControllerRefusedError, ControllerUnavailableError
from lastmile.errors import InvalidInputError

__all__ = ["VolthaCore"]

Status = grpc.StatusCode

# A table of an OLT with 4 000 ONUs takes some 10 MiB; gRPC's own limit is 4 MiB.
_LARGEST_REPLY = 256 * 1024 * 1024
# gRPC waits for up to two minutes before it connects again, and fails every request meanwhile.
_LONGEST_PAUSE_MS = 5_000

_WHAT_HAPPENED = {
    Status.UNAVAILABLE: "does not answer",
    Status.DEADLINE_EXCEEDED: "does not answer in time",
    Status.RESOURCE_EXHAUSTED: "is busy",
    Status.UNAUTHENTICATED: "refuses the request without credentials",
    Status.PERMISSION_DENIED: "refuses the request without credentials",
    Status.UNIMPLEMENTED: "does not know the request, so it is not VOLTHA's core",
}
_NEVER = {Status.INVALID_ARGUMENT, Status.OUT_OF_RANGE}


class VolthaCore:
    """One core of VOLTHA, over one gRPC channel.

    Every request raises `ControllerUnavailableError`, or `ControllerRefusedError` where a repeated request cannot help.
    Devices, ports, flows and meters are the messages of VOLTHA's Protocol Buffers.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.address = _address(endpoint.url)
        options = [
            ("grpc.max_receive_message_length", _LARGEST_REPLY),
            ("grpc.max_reconnect_backoff_ms", _LONGEST_PAUSE_MS),
            ("grpc.enable_http_proxy", 0),  # the environment could name one
        ]
        if urlsplit(endpoint.url).scheme == "grpcs":
            credentials = grpc.ssl_channel_credentials(_certificates(endpoint.ca_file))
            self._channel = grpc.aio.secure_channel(self.address, credentials, options)
        else:
            self._channel = grpc.aio.insecure_channel(self.address, options)
        self._stub = VolthaServiceStub(self._channel)
        self._timeout = endpoint.timeout_seconds
        self._turn = asyncio.Semaphore(endpoint.in_flight)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def version(self) -> str:
        """Return the version of the core."""
        answer = (await self._ask("GetVoltha", Empty())).version
        try:
            return str(json.loads(answer)["version"])  # the core encodes what it was built from
        except (ValueError, KeyError, TypeError):
            raise ControllerUnavailableError(f"VOLTHA at {self.address} does not say its version.") from None

    async def devices(self) -> Sequence[Any]:
        """Return the OLTs and ONUs."""
        devices: Sequence[Any] = (await self._ask("ListDevices", Empty())).items
        return devices

    async def device(self, device_id: str) -> Any | None:
        """Return one device; None where there is none."""
        return await self._ask("GetDevice", common_pb2.ID(id=device_id), tolerated=Status.NOT_FOUND)

    async def enable(self, device_id: str) -> None:
        """Enable the device. One that is enabled already, or is being deleted, stays so: read the device back."""
        await self._ask("EnableDevice", common_pb2.ID(id=device_id), tolerated=Status.FAILED_PRECONDITION)

    async def disable(self, device_id: str) -> None:
        """Disable the device. One that is gone, or is being deleted, stays so: read the device back."""
        await self._ask("DisableDevice", common_pb2.ID(id=device_id), tolerated=Status.FAILED_PRECONDITION)

    async def device_ports(self, device_id: str) -> Sequence[Any]:
        """Return the ports of an OLT or an ONU."""
        ports: Sequence[Any] = (await self._ask("ListDevicePorts", common_pb2.ID(id=device_id))).items
        return ports

    async def logical_ports(self, logical_id: str) -> Sequence[Any]:
        """Return the ports of a logical device, which is an OLT with its ONUs."""
        ports: Sequence[Any] = (await self._ask("ListLogicalDevicePorts", common_pb2.ID(id=logical_id))).items
        return ports

    async def flows(self, logical_id: str) -> Sequence[Any]:
        """Return the flow table of a logical device."""
        flows: Sequence[Any] = (await self._ask("ListLogicalDeviceFlows", common_pb2.ID(id=logical_id))).items
        return flows

    async def meters(self, logical_id: str) -> Sequence[Any]:
        """Return the configurations of the meters of a logical device."""
        answer = await self._ask("ListLogicalDeviceMeters", common_pb2.ID(id=logical_id))
        return [entry.config for entry in answer.items]

    async def change_flow(self, logical_id: str, change: Any) -> bool:
        """Send one change of the flow table; return False if an adapter has not carried out the removal of a flow.

        VOLTHA accepts additions that it takes back: read the table later.
        """
        request = openflow_13_pb2.FlowTableUpdate(id=logical_id, flow_mod=change)
        return await self._ask("UpdateLogicalDeviceFlowTable", request, tolerated=Status.ABORTED) is not None

    async def change_meter(self, logical_id: str, change: Any) -> None:
        """Send one change of the meter table."""
        await self._ask(
            "UpdateLogicalDeviceMeterTable", openflow_13_pb2.MeterModUpdate(id=logical_id, meter_mod=change)
        )

    async def _ask(self, method: str, request: Any, tolerated: grpc.StatusCode | None = None) -> Any:
        """Return the answer; None for a failure with the tolerated status."""
        async with self._turn:
            try:
                return await getattr(self._stub, method)(request, timeout=self._timeout)
            except grpc.aio.AioRpcError as failure:
                status = failure.code()
        if status is tolerated:
            return None
        # Raised here, so that the error does not carry gRPC's own, whose text has the core's words.
        happened = _WHAT_HAPPENED.get(status, f"failed with the gRPC status {status.name}")
        if status in _NEVER:
            raise ControllerRefusedError(f"VOLTHA at {self.address} refuses {method} as invalid.")
        raise ControllerUnavailableError(
            f"VOLTHA at {self.address} {happened} ({method}). Check its core and adapters."
        )


def _certificates(file: Path | None) -> bytes | None:
    try:
        return file.read_bytes() if file else None
    except OSError:
        raise InvalidInputError(f"The CA certificates of VOLTHA cannot be read: {file}.") from None


def _address(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("grpc", "grpcs") or not parts.hostname or port is None or parts.path.strip("/"):
        raise InvalidInputError(
            f"The address of a VOLTHA core is grpc://host:port, or grpcs://host:port with TLS, not {url!r}."
        )
    return parts.netloc.rpartition("@")[2]
