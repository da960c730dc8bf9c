"""Requests to GenieACS's NBI: bounded, timed, each failure as a named error."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from lastmile.devices.drivers import Endpoint
from lastmile.devices.errors import ControllerUnavailableError, DeviceNotSeenError
from lastmile.devices.tls import tls_failure, trusted_certificates
from lastmile.errors import LastmileError

__all__ = ["CpeInSessionError", "Document", "Nbi", "Task"]

Document = dict[str, Any]
"""An object of GenieACS, as JSON."""

PAUSE_SECONDS = 0.5
"""The pause before a request is repeated that GenieACS refuses while the CPE is in session."""

_AUTHENTICATION = {401, 403, 407}
_BUSY = {429, 502, 503, 504}


class CpeInSessionError(LastmileError):
    """The CPE has been in session with GenieACS for as long as a request may take: GenieACS changes nothing then."""


class _SlowReplyError(ControllerUnavailableError):
    """GenieACS has not answered in time, and may go on with the request."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task that GenieACS has accepted."""

    id: str
    timestamp: datetime
    """When GenieACS accepted the task, by its clock."""
    unfinished: str
    """Why the CPE has not carried out the task, in GenieACS's words; empty: a session has ended without its fault."""


class Nbi:
    """The NBI of one GenieACS, until `close`. Every method raises `ControllerUnavailableError`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = endpoint.url.rstrip("/")
        self._seconds = endpoint.timeout_seconds
        headers = {} if endpoint.username or not endpoint.secret else {"Authorization": f"Bearer {endpoint.secret}"}
        self._http = httpx.AsyncClient(
            base_url=self.url,
            verify=trusted_certificates(endpoint),
            auth=(endpoint.username, endpoint.secret) if endpoint.username else None,
            headers=headers,
            timeout=httpx.Timeout(endpoint.timeout_seconds, pool=None),
            limits=httpx.Limits(max_connections=endpoint.in_flight),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def version(self) -> str:
        """Return the version of GenieACS, as in `1.2.16+26112938e9`."""
        reply = await self._send("GET", "/devices/", params={"projection": "_id", "limit": "1"})
        self._list(reply)
        return str(reply.headers["GenieACS-Version"])

    async def find(self, collection: str, query: Mapping[str, Any], projection: str = "") -> list[Document]:
        """Return the objects of a collection (`devices`, `tasks`, `faults`, …) that match the query.

        Args:
            projection: the keys to return, separated by commas; empty: all.
        """
        parameters = {"query": json.dumps(query)} | ({"projection": projection} if projection else {})
        return self._list(await self._send("GET", f"/{collection}/", params=parameters))

    async def add_tag(self, device_id: str, tag: str) -> None:
        """Tag a device. A repeated call changes nothing. Raises `DeviceNotSeenError`."""
        self._of_device(await self._send("POST", f"/devices/{_encoded(device_id)}/tags/{_encoded(tag)}"))

    async def remove_tag(self, device_id: str, tag: str) -> None:
        """Remove the tag of a device. A repeated call changes nothing. Raises `DeviceNotSeenError`."""
        self._of_device(await self._send("DELETE", f"/devices/{_encoded(device_id)}/tags/{_encoded(tag)}"))

    async def add_task(self, device_id: str, task: Document, *, connect: bool = False) -> Task:
        """Queue a task, and with `connect` ask the CPE for a session and wait for the end of that session.

        A task replaces the waiting task of the same `uniqueKey`.

        Raises:
            DeviceNotSeenError: GenieACS does not know the device.
            CpeInSessionError: GenieACS answers other requests, and this one not in time. It may still queue the task.
        """
        path = f"/devices/{_encoded(device_id)}/tasks"
        try:
            reply = await self._send("POST", path, params={"connection_request": ""} if connect else {}, json=task)
        except _SlowReplyError:
            # A CPE in session delays the request by 30 seconds and more. Other requests tell that from an outage.
            await self.version()
            raise CpeInSessionError from None
        self._of_device(reply)
        try:
            accepted = reply.json()
            return Task(
                str(accepted["_id"]),
                datetime.fromisoformat(accepted["timestamp"]),
                "" if reply.status_code == httpx.codes.OK else reply.reason_phrase,
            )
        except (KeyError, TypeError, ValueError):
            raise self._senseless(reply) from None

    async def delete_task(self, task_id: str) -> None:
        """Delete a waiting task and its fault. A repeated call changes nothing. Raises `CpeInSessionError`."""
        await self._send("DELETE", f"/tasks/{_encoded(task_id)}", missing=True)

    async def put(self, collection: str, name: str, content: Document | str) -> None:
        """Create or replace an object of a collection: a preset, or the script of a provision."""
        body = content if isinstance(content, str) else json.dumps(content)
        await self._send("PUT", f"/{collection}/{_encoded(name)}", content=body)

    async def _send(self, method: str, path: str, *, missing: bool = False, **request: Any) -> httpx.Response:
        """Return GenieACS's answer of success, or, with `missing` or of a device, its answer 404."""
        what = f"{method} {path}"
        until = asyncio.get_running_loop().time() + self._seconds
        while True:
            reply = await self._once(method, path, what, **request)
            if "GenieACS-Version" not in reply.headers:
                raise self._not_the_nbi(reply)
            if reply.is_success or (reply.status_code == httpx.codes.NOT_FOUND and (missing or _no_device(reply))):
                return reply
            if reply.text != "Device is in session":
                raise ControllerUnavailableError(
                    f"GenieACS at {self.url} refuses {what} ({reply.status_code} {reply.reason_phrase}): "
                    "the log of genieacs-nbi says why."
                )
            if asyncio.get_running_loop().time() + PAUSE_SECONDS > until:
                raise CpeInSessionError
            await asyncio.sleep(PAUSE_SECONDS)

    async def _once(self, method: str, path: str, what: str, **request: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **request)
        except httpx.ConnectTimeout:
            raise self._unreachable("connecting took too long") from None
        except httpx.TimeoutException:
            raise _SlowReplyError(
                f"GenieACS at {self.url} has not answered {what} within {self._seconds:g} s. It may be busy or stopped."
            ) from None
        except httpx.ConnectError as failure:
            raise self._unreachable(tls_failure(failure)) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise self._unreachable("the address is no URL") from None
        except (httpx.TransportError, httpx.DecodingError):
            raise ControllerUnavailableError(
                f"The connection to GenieACS at {self.url} ended before it had answered {what}: its NBI may be "
                "starting again."
            ) from None

    def _list(self, reply: httpx.Response) -> list[Document]:
        try:
            found = reply.json()
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self._senseless(reply)
        return found

    def _of_device(self, reply: httpx.Response) -> None:
        if reply.status_code == httpx.codes.NOT_FOUND:
            raise DeviceNotSeenError("GenieACS does not know the CPE any more: the CPE has yet to contact it again")

    def _unreachable(self, reason: str) -> ControllerUnavailableError:
        because = f" ({reason})" if reason else ""
        return ControllerUnavailableError(
            f"No GenieACS answers at {self.url}{because}: is its NBI running, and is the controller's address right?"
        )

    def _not_the_nbi(self, reply: httpx.Response) -> ControllerUnavailableError:
        """Return the error for an answer of something else: a proxy before GenieACS, or another server."""
        if reply.status_code in _AUTHENTICATION:
            return ControllerUnavailableError(
                f"The proxy before GenieACS at {self.url} refuses the credentials ({reply.status_code}): "
                "correct the controller's user name and secret."
            )
        if reply.status_code in _BUSY:
            return ControllerUnavailableError(
                f"The proxy before GenieACS at {self.url} accepts no request now ({reply.status_code})."
            )
        return ControllerUnavailableError(
            f"The server at {self.url} is not GenieACS's NBI (it answers {reply.status_code}): correct the "
            "controller's address. The NBI usually has port 7557."
        )

    def _senseless(self, reply: httpx.Response) -> ControllerUnavailableError:
        return ControllerUnavailableError(
            f"The answer of GenieACS at {self.url} to {reply.request.method} {reply.request.url.path} cannot be read."
        )


def _encoded(name: str) -> str:
    """Encode a name for a path. GenieACS decodes a path once, and its ids contain `%2D`: they go out as `%252D`."""
    return quote(name, safe="")


def _no_device(reply: httpx.Response) -> bool:
    return reply.text == "No such device"
