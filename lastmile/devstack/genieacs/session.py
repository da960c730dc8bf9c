"""A session between the ACS and a CPE: what tasks read and write, and how the ACS's copy of the values follows."""

import json
from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any

from lastmile.devstack.genieacs.cpe import Cpe, CpeFaultError, Value
from lastmile.devstack.genieacs.documents import Document
from lastmile.errors import LastmileError

__all__ = ["CpeSession", "ProvisionFailedError"]

_INFORMED = ("DeviceInfo", "ManagementServer.ConnectionRequestURL")


class ProvisionFailedError(LastmileError):
    """The script of a provision has thrown an error."""


class CpeSession:
    """A session. `known`, `objects` and `tags` are the ACS's, and are changed under `lock`."""

    def __init__(
        self,
        cpe: Cpe,
        known: dict[str, Document],
        objects: set[str],
        tags: list[str],
        timestamp: Callable[[], str],
        lock: RLock,
    ) -> None:
        self._cpe = cpe
        self._known = known
        self._objects = objects
        self._tags = tags
        self._timestamp = timestamp
        self._lock = lock
        self._tasks: dict[str, Callable[[Document], None]] = {
            "getParameterValues": lambda task: self._read(task["parameterNames"]),
            "refreshObject": lambda task: self._read([task["objectName"]]),
            "setParameterValues": lambda task: self.write([(one[0], one[1]) for one in task["parameterValues"]]),
            "provisions": lambda task: self.write([(path, value) for _, path, value in task["provisions"]]),
            "addObject": self._add_object,
            "deleteObject": self._delete_object,
            "reboot": lambda task: None,
        }

    def inform(self, mac_parameter: str) -> None:
        """Take over what the CPE's Inform contains, and the virtual parameter with its MAC address."""
        for name in _INFORMED:
            self._read([f"{self._cpe.root}.{name}"])
        if self._cpe.mac:
            self._keep(mac_parameter, self._cpe.mac, "xsd:string", False)

    def run(self, task: Document) -> Document | None:
        """Carry out a task; return the fault of the CPE, if any."""
        if self._cpe.before_rpc is not None:
            self._cpe.before_rpc()
        try:
            self._tasks[task["name"]](task)
        except CpeFaultError as fault:
            values = [["value", one[0], one[1]] for one in task["parameterValues"]]
            return {
                "code": "cwmp.9003",
                "message": "Invalid arguments",
                "detail": fault.detail,
                "provisions": json.dumps(values, separators=(",", ":")),
            }
        return None

    def write(self, values: Sequence[tuple[str, Value]]) -> None:
        """Set the values that differ from the ACS's copy. What the CPE lacks, or does not let write, is skipped.

        Raises:
            CpeFaultError: the CPE refuses a value.
        """
        changed: dict[str, Value] = {}
        for path, value in values:
            if path not in self._known:
                self._read([path])
            copy = self._known.get(path)
            if copy is not None and copy.get("_writable") is not False and copy["_value"] != value:
                changed[path] = value
        # The CPE may lack what the ACS's copy still has.
        changed = {path: value for path, value in changed.items() if path in self._cpe.parameters}
        if changed:
            self._cpe.write(changed)
            for path, value in changed.items():
                self._keep(path, value, self._cpe.parameters[path].type, True)

    def tag(self, name: str) -> None:
        """Tag the device."""
        with self._lock:
            if name not in self._tags:
                self._tags.append(name)

    def clear(self, root: str) -> None:
        """Forget the copies of the parameters below a root object, and read the Inform's again."""
        with self._lock:
            for path in [path for path in self._known if path.startswith(f"{root}.")]:
                del self._known[path]
        if root == self._cpe.root:
            for name in _INFORMED:
                self._read([f"{root}.{name}"])

    def _read(self, names: Sequence[str]) -> None:
        for name in names:
            with self._lock:  # what the CPE does not have any more
                for path in [path for path in self._known if path == name or path.startswith(f"{name}.")]:
                    if path not in self._cpe.parameters:
                        del self._known[path]
            for path in self._cpe.below(name):
                parameter = self._cpe.parameters[path]
                if path.endswith("."):
                    with self._lock:
                        self._objects.add(path)
                else:
                    self._keep(path, self._cpe.read(path), parameter.type, parameter.writable)

    def _add_object(self, task: Document) -> None:
        new = self._cpe.add_object(task["objectName"])
        for name, value in task.get("parameterValues", []) if new else []:
            path = f"{new}.{name}"
            self._cpe.write({path: value})
            self._keep(path, value, self._cpe.parameters[path].type, None)

    def _delete_object(self, task: Document) -> None:
        self._cpe.delete_object(task["objectName"])
        self._read([task["objectName"]])

    def _keep(self, path: str, value: Value, type: str, writable: bool | None) -> None:
        copy: dict[str, Any] = {"_object": False, "_timestamp": self._timestamp(), "_type": type, "_value": value}
        with self._lock:
            self._known[path] = copy if writable is None else {**copy, "_writable": writable}
