"""Requests to NetBox with pynetbox: bounded, timed, off the event loop, each failure as a named error.

Reads, changes and deletions are retried where that may help. A creation is sent once: only its caller can look up
whether NetBox has carried it out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import pynetbox
import requests
from pynetbox.core.query import Request
from requests.adapters import HTTPAdapter

from ipam.netbox import errors
from ipam.netbox.error_mapping import translated
from ipam.netbox.errors import (
    ConnectionLostError,
    NetBoxError,
    NetBoxNotFoundError,
    NetBoxServerError,
    NetBoxUnavailableError,
    NetBoxUnreachableError,
    NotNetBoxError,
)
from lastmile.telemetry.metrics import NETBOX_ERRORS, NETBOX_SECONDS

__all__ = ["Object", "Wire"]

Object = dict[str, Any]
"""An object of NetBox, as JSON."""

T = TypeVar("T")

# Seconds before the second and the third try. With a longer `Retry-After` the caller gets the error at once.
_PAUSES = (0.2, 1.0)
_LONGEST_PAUSE = 5.0

_METHODS = ("DELETE", "GET", "OPTIONS", "PATCH", "POST")


class Wire:
    """One NetBox, over one pool of connections; paths are those below `/api/`, as in `ipam/prefixes`."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        ca_file: Path | None,
        connect_timeout: float,
        read_timeout: float,
        in_flight: int,
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._base = pynetbox.api(self.url).base_url
        self._session = _Session((connect_timeout, read_timeout), ca_file, in_flight)
        # The pool is the bound: a caller that is cancelled while it waits for its turn sends nothing, and one whose
        # request is under way leaves its thread busy until NetBox has answered.
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="netbox")
        # Prometheus does not count the failure that a series begins with, so every series begins at zero.
        for method, kind in product(_METHODS, errors.__all__):
            NETBOX_ERRORS.labels(method, kind)

    async def close(self) -> None:
        """Wait for running requests, and close the connections."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        self._session.close()

    async def page(self, path: str, *, limit: int = 1000, **filters: Any) -> list[Object]:
        """Return the first objects that pass the filters; None filters for objects without a value.

        NetBox ignores a filter that it does not know: compare what comes back. It shows no more than its MAX_PAGE_SIZE.
        """
        shown, _ = await self._page(path, limit, filters)
        return shown

    async def each(self, path: str, *, limit: int = 1000, **filters: Any) -> AsyncIterator[Object]:
        """Yield every object that passes the filters, by id, however short NetBox's pages are.

        A page starts after the last id of the page before, so that no object is missed while others come and go.
        """
        last, complete = 0, False
        while not complete:
            shown, number = await self._page(path, limit, {"ordering": "id", "id__gt": last, **filters})
            complete = len(shown) >= number
            for one in shown:
                if one["id"] <= last:
                    raise NotNetBoxError(f"what answers at {self.url} does not filter as NetBox does")
                last = one["id"]
                yield one

    async def _page(self, path: str, limit: int, filters: Mapping[str, Any]) -> tuple[list[Object], int]:
        """Return the objects of one page, and how many objects pass the filters."""
        request = self._request(path, filters=_known(filters), limit=limit, offset=0)
        shown = await self._tried_again(f"GET {path}", lambda: [dict(one) for one in request.get()])
        return shown, (request.count or 0) if shown else 0

    async def count(self, path: str, **filters: Any) -> int:
        """Return how many objects pass the filters, as in `page`."""
        request = self._request(path, filters=_known(filters))
        return await self._tried_again(f"GET {path}", lambda: int(request.get_count()))

    async def member(self, path: str, key: int) -> Object | None:
        """Return one object; None where there is none."""
        request = self._request(path, key)
        try:
            return await self._tried_again(f"GET {path}/{key}", lambda: dict(next(request.get())))
        except NetBoxNotFoundError:
            return None

    async def status(self) -> Mapping[str, Any]:
        """Return NetBox's status, with its versions."""
        request = self._request("status")
        return await self._tried_again("GET status", lambda: dict(next(request.get())))

    async def actions(self, path: str) -> set[str]:
        """Return which of `POST` and `PUT` the token may do with objects of this kind."""
        request = self._request(path)
        return await self._tried_again(f"OPTIONS {path}", lambda: set(request.options().get("actions", ())))

    async def create(self, path: str, body: Object) -> Object:
        """Create an object. Sent once."""
        request = self._request(path)
        return await self._run(f"POST {path}", lambda: dict(request.post(body)))

    async def change(self, path: str, key: int, body: Object) -> Object:
        """Change an object; return it."""
        request = self._request(path, key)
        return await self._tried_again(f"PATCH {path}/{key}", lambda: dict(request.patch(body)))

    async def remove(self, path: str, key: int) -> None:
        """Delete the object. Raises `NetBoxNotFoundError` where there is none."""
        await self._tried_again(f"DELETE {path}/{key}", self._request(path, key).delete)

    def _request(self, path: str, key: int | None = None, **options: Any) -> Request:
        # As text: pynetbox takes a key of 0 for none, and would address the whole collection.
        member = None if key is None else str(key)
        base = f"{self._base}/{path}/"  # without the last slash NetBox redirects, and a POST becomes a GET
        return Request(base=base, key=member, token=self._token, http_session=self._session, **options)

    async def _tried_again(self, what: str, call: Callable[[], T]) -> T:
        for pause in _PAUSES:
            try:
                return await self._run(what, call)
            except (NetBoxUnreachableError, ConnectionLostError, NetBoxServerError, NetBoxUnavailableError) as failure:
                if failure.retry_after > _LONGEST_PAUSE:
                    raise
                wait = max(pause, failure.retry_after)
            await asyncio.sleep(wait)
        return await self._run(what, call)

    async def _run(self, what: str, call: Callable[[], T]) -> T:
        method = what.partition(" ")[0]

        def guarded() -> T | NetBoxError:
            # Measured in the thread: a task that is cancelled meanwhile does not see the end.
            try:
                with NETBOX_SECONDS.labels(method).time():
                    return call()
            except Exception as failure:
                # Not raised here: the original exception holds the request, which holds the token.
                error = translated(failure, what, self.url)
                NETBOX_ERRORS.labels(method, type(error).__name__).inc()
                return error

        result = await asyncio.get_running_loop().run_in_executor(self._pool, guarded)
        if isinstance(result, NetBoxError):
            raise result
        return result


def _known(filters: Mapping[str, Any]) -> Object:
    return {name: "null" if value is None else value for name, value in filters.items()}


class _Session(requests.Session):
    """A session with time-outs that takes nothing from the environment and follows no redirect."""

    def __init__(self, timeout: tuple[float, float], ca_file: Path | None, in_flight: int) -> None:
        super().__init__()
        self._timeout = timeout
        # The environment could override the CA file, replace the token by what ~/.netrc says, and name a proxy.
        self.trust_env = False
        # NetBox's words are read (`ipam.netbox.error_mapping`), and NetBox would say them in its user's language.
        self.headers["Accept-Language"] = "en"
        self.verify = str(ca_file) if ca_file else True
        # A POST that is redirected arrives as a GET, and looks as if it had succeeded.
        self.max_redirects = 0
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=in_flight)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super().request(*args, **{"timeout": self._timeout} | kwargs)
