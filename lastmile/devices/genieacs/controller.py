"""The controller of CPEs at a GenieACS."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from lastmile.devices.controllers import DONE, LineDevice, Outcome
from lastmile.devices.errors import AmbiguousDeviceError, ControllerRefusedError, DeviceNotSeenError
from lastmile.devices.genieacs.identity import device_query
from lastmile.devices.genieacs.nbi import CpeInSessionError, Document, Nbi, Task
from lastmile.devices.genieacs.options import CpeModel, GenieAcsOptions, Value
from lastmile.devices.genieacs.setup import LINE
from lastmile.devices.genieacs.verification import verify
from lastmile.fields.unsafe import escape

__all__ = ["READ_KEY", "WRITE_KEY", "GenieAcs"]

READ_KEY, WRITE_KEY = "lastmile-read", "lastmile-write"
"""The `uniqueKey` of Lastmile's tasks: a repeated task replaces the waiting one, and `switch_off` finds them."""

ATTEMPTS = 3
"""How often a write is tried that the CPE has not taken over, as in a race with a factory reset."""

_XSD = {bool: "xsd:boolean", int: "xsd:unsignedInt", str: "xsd:string"}

_FAULTED = "Task faulted"
_WAITS = {
    "Device is offline": "the CPE is offline",
    "Task queued but not processed": "the CPE has not started a session with the ACS",
}
IN_SESSION = "the CPE is in a long session with the ACS"


@dataclass(frozen=True, slots=True)
class _Cpe:
    """A CPE as GenieACS knows it."""

    id: str
    product_class: str
    model: CpeModel | None


class GenieAcs:
    """Configures the CPEs of lines at one GenieACS."""

    forgets = False

    def __init__(self, nbi: Nbi, options: GenieAcsOptions) -> None:
        self._nbi = nbi
        self._options = options

    async def check(self) -> str:
        """Return the product and its version."""
        return f"GenieACS {await self._nbi.version()}"

    async def switch_on(self, device: LineDevice) -> Outcome:
        """Tag the CPE, write the parameters of its model, and verify them by reading.

        The tag comes first: a preset by tag, where the ACS has one, then acts in the same session.
        """
        cpe = await self._find(device)
        if cpe is None:
            raise DeviceNotSeenError(f"the CPE {device.identity} has not contacted the ACS yet")
        await self._nbi.add_tag(cpe.id, self._options.tag)
        if cpe.model is None:
            return Outcome("the ACS has not read the data model of the CPE yet")
        expected = {cpe.model.provisioning_code: device.subscriber_ref, **self._options.values_of(cpe.model)}
        try:
            return await self._write(device, cpe, expected)
        except CpeInSessionError:
            return Outcome(IN_SESSION)

    async def switch_off(self, device: LineDevice) -> Outcome:
        """Remove the tag of the CPE, and those of its waiting tasks that are Lastmile's.

        The CPE keeps its values.
        """
        if device.shared:
            return DONE
        cpe = await self._find(device)
        if cpe is None:
            return DONE
        try:
            await self._nbi.remove_tag(cpe.id, self._options.tag)
            for task in await self._nbi.find("tasks", {"device": cpe.id}, "_id,uniqueKey"):
                if task.get("uniqueKey") in (READ_KEY, WRITE_KEY):
                    await self._nbi.delete_task(str(task["_id"]))
        except DeviceNotSeenError:
            return DONE
        except CpeInSessionError:
            return Outcome(IN_SESSION)
        return DONE

    async def _find(self, device: LineDevice) -> _Cpe | None:
        query = device_query(device, self._options.mac_parameter)
        # Every Inform contains parameters of DeviceInfo, so their root object shows the data model.
        found = await self._nbi.find(
            "devices", query, "_id,_deviceId,Device.DeviceInfo,InternetGatewayDevice.DeviceInfo"
        )
        if len(found) > 1:
            ids = ", ".join(sorted(str(one.get("_id")) for one in found))
            raise AmbiguousDeviceError(
                f"Several CPEs at the ACS have {device.identity} in {self._options.mac_parameter}: {ids}. Delete the "
                "wrong ones there, or name the CPE by OUI, product class and serial number."
            )
        return self._read(found[0]) if found else None

    def _read(self, document: Document) -> _Cpe:
        product_class = str((document.get("_deviceId") or {}).get("_ProductClass", ""))
        return _Cpe(str(document.get("_id")), product_class, self._options.model_of(product_class, document))

    async def _write(self, device: LineDevice, cpe: _Cpe, expected: Mapping[str, Value]) -> Outcome:
        paths = list(expected)
        typed = [[path, value, _XSD[type(value)]] for path, value in expected.items()]
        for _ in range(ATTEMPTS):
            read = await self._nbi.add_task(
                cpe.id, {"name": "getParameterValues", "uniqueKey": READ_KEY, "parameterNames": paths}
            )
            written = await self._nbi.add_task(
                cpe.id, {"name": "setParameterValues", "uniqueKey": WRITE_KEY, "parameterValues": typed}, connect=True
            )
            if written.unfinished == _FAULTED:
                return await self._faulted(device, cpe, written)
            if written.unfinished:
                return Outcome(_waits_for(written.unfinished))
            [document] = await self._nbi.find("devices", {"_id": cpe.id}, ",".join(paths)) or [{}]
            verification = verify(expected, document, read.timestamp)
            if verification.holds:
                return await self._asked_lastmile(cpe)
        if verification.not_settable:
            raise ControllerRefusedError(
                f"The CPE {device.identity} has no writable {', '.join(verification.not_settable)}: configure the "
                f"parameters of product class {cpe.product_class or '(none)'} in the options of the controller."
            )
        return Outcome(f"the CPE has not taken over {', '.join(verification.not_applied)}")

    async def _asked_lastmile(self, cpe: _Cpe) -> Outcome:
        """Return whether the preset, which acted in the same session, got the settings of the line from Lastmile."""
        faults = await self._nbi.find("faults", {"_id": f"{cpe.id}:{LINE}"}) if self._options.extension else []
        if not faults:
            return DONE
        return Outcome(f"the ACS has not got the settings of the line from Lastmile: {_text(faults[0].get('message'))}")

    async def _faulted(self, device: LineDevice, cpe: _Cpe, task: Task) -> Outcome:
        """Raise the refusal of the CPE; return an outcome where the ACS itself failed, and tries again."""
        faults = await self._nbi.find("faults", {"_id": f"{cpe.id}:task_{task.id}"})
        if not faults or not str(faults[0].get("code", "")).startswith("cwmp."):
            return Outcome("the session of the CPE failed, and the ACS will try again")
        # Otherwise the ACS would repeat a write that the CPE refuses, also after the order is rolled back.
        with suppress(CpeInSessionError):
            await self._nbi.delete_task(task.id)
        raise ControllerRefusedError(f"The CPE {device.identity} refuses {_refused(faults[0])}")


def _waits_for(reason: str) -> str:
    return _WAITS.get(reason) or f"the CPE refuses the ACS's connection request, and follows later ({_text(reason)})"


def _refused(fault: Document) -> str:
    """Return the parameters that the CPE refuses, with the fault of each (TR-069, A.5), or the fault of the RPC."""
    detail = fault.get("detail")
    detail = detail if isinstance(detail, dict) else {}
    parameters = detail.get("setParameterValuesFault")
    if not isinstance(parameters, list) or not parameters:
        return f"the parameters ({_text(detail.get('faultCode'))} {_text(detail.get('faultString'))})"
    return ", ".join(
        f"{_text(one.get('parameterName'))} ({_text(one.get('faultCode'))} {_text(one.get('faultString'))})"
        for one in parameters
        if isinstance(one, dict)
    )


def _text(written: object) -> str:
    """Return text of a CPE, which may be anything, for a message."""
    return escape(str(written))[:200]
