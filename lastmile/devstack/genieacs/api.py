"""The routes of the NBI, and its answers to them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from lastmile.devstack.genieacs.acs import Acs, AcsDevice
from lastmile.devstack.genieacs.documents import Document, matches, projected
from lastmile.errors import LastmileError

__all__ = ["NbiReply", "NbiRequest", "WorkerDiesError", "answer"]

_NAME = r"([a-zA-Z0-9\-_%]+)"
_OBJECT_ID = re.compile("[0-9a-f]{24}")


class WorkerDiesError(LastmileError):
    """The request ends the NBI's worker: GenieACS answers nothing."""


@dataclass(frozen=True)
class NbiRequest:
    """A request of a client; `path` is still encoded."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    body: bytes = b""

    def one(self, name: str) -> str:
        """Return a parameter of the query; an empty text where it is missing."""
        return self.query.get(name, [""])[-1]


@dataclass(frozen=True)
class NbiReply:
    """A reply. Text is sent as it is, and everything else as JSON."""

    status: int = 200
    body: Any = ""
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


_NO_DEVICE = NbiReply(404, "No such device")
_IN_SESSION = NbiReply(503, "Device is in session")
_NOT_FOUND = NbiReply(404, "404 Not Found")


def answer(acs: Acs, request: NbiRequest) -> NbiReply:
    """Return GenieACS's reply.

    Raises:
        WorkerDiesError: there is none.
    """
    for pattern, methods in _ROUTES:
        if found := pattern.fullmatch(request.path):
            route = methods.get(request.method)
            if route is None:
                return NbiReply(405, "405 Method Not Allowed", headers={"Allow": ", ".join(methods)})
            return route(acs, request, *map(unquote, found.groups()))
    return _NOT_FOUND


def _put_preset(acs: Acs, request: NbiRequest, name: str) -> NbiReply:
    preset, failure = _json(request.body)
    if failure:
        return failure
    with acs.lock:
        acs.presets[name] = {"_id": name, **preset}
    return NbiReply()


def _put_provision(acs: Acs, request: NbiRequest, name: str) -> NbiReply:
    script = request.body.decode()
    if script.count("(") != script.count(")"):  # the stand-in parses no JavaScript
        return NbiReply(400, "SyntaxError: Unexpected token '}'")
    with acs.lock:
        acs.provisions[name] = script
    return NbiReply()


def _delete_preset(acs: Acs, request: NbiRequest, name: str) -> NbiReply:
    with acs.lock:
        acs.presets.pop(name, None)
    return NbiReply()


def _delete_provision(acs: Acs, request: NbiRequest, name: str) -> NbiReply:
    with acs.lock:
        acs.provisions.pop(name, None)
    return NbiReply()


def _add_tag(acs: Acs, request: NbiRequest, id: str, tag: str) -> NbiReply:
    with acs.lock:
        device = acs.devices.get(id)
        if device is None:
            return _NO_DEVICE
        if tag not in device.tags:
            device.tags.append(tag)
    return NbiReply()


def _remove_tag(acs: Acs, request: NbiRequest, id: str, tag: str) -> NbiReply:
    with acs.lock:
        device = acs.devices.get(id)
        if device is None:
            return _NO_DEVICE
        if tag in device.tags:
            device.tags.remove(tag)
    return NbiReply()


def _add_task(acs: Acs, request: NbiRequest, id: str) -> NbiReply:
    connect = "connection_request" in request.query
    task: Document | None = None
    if request.body:
        task, failure = _json(request.body)
        if failure:
            return failure
        task = {**task, "device": id}
    elif not connect:
        return NbiReply(400)
    if not connect or task is None:
        device = acs.devices.get(id)
        if device is None:
            return _NO_DEVICE
        if task is not None:
            return _queued(acs, task, "")
        problem = acs.request_connection(device)
        return NbiReply(504, problem, problem) if problem else NbiReply()
    return _run_now(acs, id, task)


def _run_now(acs: Acs, id: str, task: Document) -> NbiReply:
    """Queue a task after the running session, and wait for the session that the connection request begins."""
    device = acs.devices.get(id)
    if device is None:
        return _NO_DEVICE
    if not device.session.acquire(timeout=acs.lock_seconds):
        return _queued(acs, task, "Task queued but not processed")
    try:
        queued = _queued(acs, task, "")
    finally:
        device.session.release()
    problem = acs.request_connection(device)
    if not problem and f"{id}:task_{queued.body['_id']}" in acs.faults:
        problem = "Task faulted"
    return NbiReply(202, queued.body, problem) if problem else NbiReply(200, queued.body)


def _queued(acs: Acs, task: Document, reason: str) -> NbiReply:
    if not _is_valid(task):
        raise WorkerDiesError
    return NbiReply(202, acs.insert(task), reason)


def _is_valid(task: Document) -> bool:
    def texts(values: Any) -> bool:
        return isinstance(values, list) and bool(values) and all(isinstance(one, str) and one for one in values)

    def pairs(values: Any) -> bool:
        return isinstance(values, list) and all(
            isinstance(one, list) and len(one) >= 2 and isinstance(one[1], str | bool | int | float) for one in values
        )

    checks: dict[str, Callable[[], bool]] = {
        "getParameterValues": lambda: texts(task.get("parameterNames")),
        "setParameterValues": lambda: bool(task.get("parameterValues")) and pairs(task["parameterValues"]),
        "refreshObject": lambda: isinstance(task.get("objectName"), str),
        "addObject": lambda: isinstance(task.get("objectName"), str) and pairs(task.get("parameterValues", [])),
        "deleteObject": lambda: bool(task.get("objectName")),
        "provisions": lambda: isinstance(task.get("provisions"), list),
        "reboot": lambda: True,
    }
    check = checks.get(task.get("name", ""))
    return check is not None and check()


def _delete_task(acs: Acs, request: NbiRequest, id: str) -> NbiReply:
    return _with_task(acs, id, lambda device, task: acs.tasks.pop(id, None))


def _retry_task(acs: Acs, request: NbiRequest, id: str) -> NbiReply:
    return _with_task(acs, id, lambda device, task: None)


def _with_task(acs: Acs, id: str, change: Callable[[AcsDevice, Document], object]) -> NbiReply:
    """Remove the fault of a task, and change the task, unless its device is in session."""
    if not _OBJECT_ID.fullmatch(id):
        raise WorkerDiesError
    task = acs.tasks.get(id)
    if task is None:
        return NbiReply(404, "Task not found")
    device = acs.devices[task["device"]]
    if not device.session.acquire(blocking=False):
        return _IN_SESSION
    try:
        with acs.lock:
            acs.faults.pop(f"{device.cpe.id}:task_{id}", None)
            change(device, task)
    finally:
        device.session.release()
    return NbiReply()


def _delete_fault(acs: Acs, request: NbiRequest, id: str) -> NbiReply:
    device_id, _, channel = id.partition(":")
    device = acs.devices.get(device_id)
    if device is not None and device.session.locked():
        return _IN_SESSION
    with acs.lock:
        acs.faults.pop(id, None)
        acs.tasks.pop(channel.removeprefix("task_"), None)
    return NbiReply()


def _delete_device(acs: Acs, request: NbiRequest, id: str) -> NbiReply:
    device = acs.devices.get(id)
    if device is not None and device.session.locked():
        return _IN_SESSION
    acs.delete_device(id)
    return NbiReply()


def _device_documents(acs: Acs, query: Mapping[str, Any]) -> list[Document]:
    """Return the devices, or the one with the `_id` of the query: MongoDB has an index."""
    id = query.get("_id")
    found = acs.devices.values() if not isinstance(id, str) else filter(None, [acs.devices.get(id)])
    return [device.document() for device in found]


_COLLECTIONS: Mapping[str, Callable[[Acs, Mapping[str, Any]], list[Document]]] = {
    "devices": _device_documents,
    "tasks": lambda acs, _: [dict(task) for task in acs.tasks.values()],
    "faults": lambda acs, _: list(acs.faults.values()),
    "presets": lambda acs, _: list(acs.presets.values()),
    "provisions": lambda acs, _: [{"_id": name, "script": script} for name, script in acs.provisions.items()],
}


def _list(acs: Acs, request: NbiRequest, collection: str) -> NbiReply:
    if collection not in _COLLECTIONS:
        return _NOT_FOUND
    query, failure = _json(request.one("query").encode() or b"{}")
    if failure:
        return failure
    with acs.lock:
        documents = _COLLECTIONS[collection](acs, query)
    of_devices = collection == "devices"
    found = [one for one in documents if matches(one, query, of_devices=of_devices)]
    total = {"total": str(len(found))}
    found = found[int(request.one("skip") or 0) :]
    found = found[: int(request.one("limit") or len(found))]
    shown = [projected(one, request.one("projection")) for one in found]
    return NbiReply(200, shown, headers=total)


def _json(body: bytes) -> tuple[Any, NbiReply | None]:
    """Return the decoded body, or the reply to a body that is no JSON."""
    try:
        return json.loads(body), None
    except json.JSONDecodeError as failure:
        words = f"SyntaxError: Expected property name or '}}' in JSON at position {failure.pos}"
        return None, NbiReply(400, words)


_Route = Callable[..., NbiReply]
_ROUTES: Sequence[tuple[re.Pattern[str], Mapping[str, _Route]]] = [
    (re.compile(pattern), methods)
    for pattern, methods in (
        (f"/presets/{_NAME}/?", {"PUT": _put_preset, "DELETE": _delete_preset}),
        (f"/provisions/{_NAME}/?", {"PUT": _put_provision, "DELETE": _delete_provision}),
        (f"/devices/{_NAME}/tags/{_NAME}/?", {"POST": _add_tag, "DELETE": _remove_tag}),
        (f"/devices/{_NAME}/tasks/?", {"POST": _add_task}),
        (f"/devices/{_NAME}/?", {"DELETE": _delete_device}),
        (f"/tasks/{_NAME}/retry", {"POST": _retry_task}),
        (f"/tasks/{_NAME}/?", {"DELETE": _delete_task}),
        (r"/faults/([a-zA-Z0-9\-_%:]+)/?", {"DELETE": _delete_fault}),
        ("/([a-zA-Z0-9_]+)/?", {"GET": _list, "HEAD": _list}),
    )
]
