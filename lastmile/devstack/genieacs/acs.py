"""The state of the ACS: devices, tasks, faults, presets and provisions, and the sessions with CPEs."""

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lastmile.devstack.genieacs.cpe import Cpe, Reachability, Value
from lastmile.devstack.genieacs.documents import Document, nested
from lastmile.devstack.genieacs.session import CpeSession, ProvisionFailedError

__all__ = ["Acs", "AcsDevice"]

MAC_PARAMETER = "VirtualParameters.MACAddress"


@dataclass
class AcsDevice:
    """A CPE as the ACS knows it."""

    cpe: Cpe
    tags: list[str] = field(default_factory=list)
    last_inform: str = ""
    known: dict[str, Document] = field(default_factory=dict)
    """The ACS's copy of the parameters, by path."""
    objects: set[str] = field(default_factory=set)
    """The objects without parameters."""
    session: threading.Lock = field(default_factory=threading.Lock)
    """GenieACS's lock of the session with this CPE."""

    def document(self) -> Document:
        """Return the device as the NBI shows it."""
        shown = {"_id": self.cpe.id, "_deviceId": self.cpe.identity, "_lastInform": self.last_inform}
        tags = {"_tags": list(self.tags)} if self.tags else {}
        return {**shown, **tags, **nested(self.known, self.objects)}


class Acs:
    """A GenieACS with its database.

    Args:
        lock_seconds: how long a task with a connection request waits for the end of the CPE's session; 30 in GenieACS.
    """

    def __init__(self, *, lock_seconds: float = 30) -> None:
        self.lock_seconds = lock_seconds
        self.lock = threading.RLock()
        """Held to read or change what follows."""
        self.devices: dict[str, AcsDevice] = {}
        self.tasks: dict[str, Document] = {}
        self.faults: dict[str, Document] = {}
        self.presets: dict[str, Document] = {}
        self.provisions: dict[str, str] = {}
        self.programs: dict[str, Callable[[CpeSession], object]] = {}
        """What a provision does, by its name: the stand-in runs no JavaScript but `clear("…")`."""
        self._numbers = itertools.count(1)
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the time of the ACS."""
        return datetime.now(UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        """Set the ACS's clock forward."""
        self._ahead += timedelta(seconds=seconds)

    def timestamp(self) -> str:
        """Return the time as the NBI writes it."""
        return _written(self.now())

    def add(self, cpe: Cpe) -> AcsDevice:
        """Let a CPE inform for the first time; return the ACS's record of it."""
        with self.lock:
            device = self.devices[cpe.id] = AcsDevice(cpe)
        self.inform(cpe)
        return device

    def inform(self, cpe: Cpe) -> None:
        """Run a session, as after the CPE's periodic Inform. Waits for the end of a running session."""
        device = self.devices[cpe.id]
        with device.session:
            self._run_session(device)

    @contextmanager
    def in_session(self, cpe: Cpe) -> Iterator[None]:
        """Keep the CPE in session for the time of the block."""
        with self.devices[cpe.id].session:
            yield

    def request_connection(self, device: AcsDevice) -> str:
        """Ask the CPE for a session; return the NBI's words for a failure, and an empty text after the session."""
        cpe = device.cpe
        if cpe.reachability is not Reachability.OFFLINE and cpe.wants_password and not self._knows_password(device):
            return "Connection request error: Incorrect connection request credentials"
        if cpe.reachability is Reachability.ONLINE:
            self.inform(cpe)
        return cpe.reachability.value

    def _knows_password(self, device: AcsDevice) -> bool:
        path = f"{device.cpe.root}.ManagementServer.ConnectionRequestPassword"
        password = device.cpe.parameters[path].value
        return bool(password) and device.known.get(path, {}).get("_value") == password

    def insert(self, task: Document) -> Document:
        """Queue a valid task, in place of the waiting task of the same device and `uniqueKey`."""
        with self.lock:
            now = self.now()
            task["timestamp"] = _written(now)
            if task.get("expiry"):
                task["expiry"] = _written(now + timedelta(seconds=float(task["expiry"])))
            if key := task.get("uniqueKey"):
                alike = [
                    id
                    for id, other in self.tasks.items()
                    if (other["device"], other.get("uniqueKey")) == (task["device"], key)
                ]
                for id in alike:
                    del self.tasks[id]
            task["_id"] = f"{int(time.time()):08x}{0:010x}{next(self._numbers):06x}"
            self.tasks[task["_id"]] = task
            return task

    def delete_device(self, id: str) -> None:
        """Delete a device with its tasks and faults."""
        with self.lock:
            self.devices.pop(id, None)
            for kept in (self.tasks, self.faults):
                for key in [key for key, one in kept.items() if one["device"] == id]:
                    del kept[key]

    def _run_session(self, device: AcsDevice) -> None:
        session = CpeSession(device.cpe, device.known, device.objects, device.tags, self.timestamp, self.lock)
        with self.lock:
            device.last_inform = self.timestamp()
            events = {"0 BOOTSTRAP"} if device.cpe.was_reset else {"2 PERIODIC"}
            device.cpe.was_reset = False
        session.inform(MAC_PARAMETER)
        self._run_presets(device, session, events)
        for task in self._waiting(device):
            if task["_id"] in self.tasks:  # another client may delete a task that is about to run
                self._run_task(device, session, task)

    def _waiting(self, device: AcsDevice) -> list[Document]:
        """Return the tasks of a session, in order. A task with a fault is left, and one that has expired is dropped."""
        with self.lock:
            own = [task for task in self.tasks.values() if task["device"] == device.cpe.id]
            now = self.timestamp()
            for task in own:
                if task.get("expiry", now) < now:
                    del self.tasks[task["_id"]]
            return [
                task
                for task in own
                if task["_id"] in self.tasks and f"{device.cpe.id}:task_{task['_id']}" not in self.faults
            ]

    def _run_task(self, device: AcsDevice, session: CpeSession, task: Document) -> None:
        fault = session.run(task)
        with self.lock:
            if fault is None:
                self.tasks.pop(task["_id"], None)
            else:
                self._keep_fault(device, f"task_{task['_id']}", fault)

    def _run_presets(self, device: AcsDevice, session: CpeSession, events: set[str]) -> None:
        with self.lock:
            presets = sorted(self.presets.values(), key=lambda preset: preset.get("weight", 0))
        for preset in presets:
            wanted = {event for event, on in preset.get("events", {}).items() if on}
            if not wanted <= events or not _applies(preset.get("precondition"), device):
                continue
            for provision in preset["configurations"]:
                try:
                    self._run_provision(provision["name"], session)
                except ProvisionFailedError as failure:
                    detail = {"name": "Error", "message": str(failure), "stack": f"Error: {failure}"}
                    fault = {"code": "script.Error", "message": str(failure), "detail": detail}
                    with self.lock:
                        self._keep_fault(
                            device, preset["channel"], {**fault, "provisions": json.dumps([[provision["name"]]])}
                        )

    def _run_provision(self, name: str, session: CpeSession) -> None:
        for root in re.findall(r'\bclear\("(\w+)"', self.provisions.get(name, "")):
            session.clear(root)
        if program := self.programs.get(name):
            program(session)

    def _keep_fault(self, device: AcsDevice, channel: str, fault: Mapping[str, Any]) -> None:
        id = f"{device.cpe.id}:{channel}"
        self.faults[id] = {
            "_id": id,
            "device": device.cpe.id,
            "channel": channel,
            "timestamp": self.timestamp(),
            "retries": 0,
            **fault,
        }

    def value(self, cpe: Cpe, path: str) -> Value | None:
        """Return the ACS's copy of a value; None where it has none."""
        with self.lock:
            return self.devices[cpe.id].known.get(path, {}).get("_value")


def _applies(precondition: str | None, device: AcsDevice) -> bool:
    """Return whether a preset applies to a device: every tag and part of the identity is as the preset says."""
    wanted = json.loads(precondition or "{}")
    identity = {f"_deviceId.{key}": value for key, value in device.cpe.identity.items()}
    return all(value in device.tags if key == "_tags" else identity.get(key) == value for key, value in wanted.items())


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
