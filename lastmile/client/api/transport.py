"""Requests to the API: the token, repeats while the API is away, and a clear error for each failure."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from lastmile.client.api.failures import ApiUnavailableError, to_error
from lastmile.errors import InvalidInputError, UnavailableError

__all__ = ["NO_PATIENCE", "PATIENCE_SECONDS", "Event", "Transport"]

PATIENCE_SECONDS = 60.0
"""How long a request is repeated while the API is away. Only requests that are safe to repeat are."""
NO_PATIENCE = 0.0
PAUSE_SECONDS = 1.0
TIMEOUT = httpx.Timeout(30, connect=10, pool=None)
STREAM_TIMEOUT = httpx.Timeout(60, connect=10, pool=None)
"""The API sends a sign of life on each stream every 15 seconds."""


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event."""

    name: str
    id: str
    data: str


class Transport:
    """The connection to an API at `url`, which `close` ends. The token is in no message."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._http = httpx.AsyncClient(
                base_url=self.url,
                headers={"Authorization": f"Bearer {token}"},
                timeout=TIMEOUT,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            )
        except (OSError, ssl.SSLError) as failure:
            raise InvalidInputError(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {failure.strerror}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(
        self, path: str, parameters: Mapping[str, Any] | None = None, *, patience: float = PATIENCE_SECONDS
    ) -> Any:
        """Return the JSON at the path. Parameters that are None are left out."""
        return await self._repeat("GET", path, patience, params=_given(parameters))

    async def pages(self, path: str, parameters: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Yield the results of all pages of a list."""
        wanted = dict(parameters)
        while True:
            page = await self.get(path, wanted)
            for found in page["results"]:
                yield found
            if page["next"] is None:
                return
            wanted["cursor"] = httpx.URL(page["next"]).params["cursor"]

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        *,
        tenant: str | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> Any:
        """Send a body and return the JSON of the answer. The request is repeated for `patience` seconds."""
        return await self._repeat(method, path, patience, json=body, params=_given({"tenant": tenant}), headers=headers)

    async def events(self, path: str, tenant: str, last_event_id: str) -> AsyncIterator[Event]:
        """Yield the events of the path until the stream ends. Raises `ApiUnavailableError` where it breaks off."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        try:
            async with self._http.stream(
                "GET", path, params={"tenant": tenant}, headers=headers, timeout=STREAM_TIMEOUT
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    await answer.aread()
                    raise to_error(answer, self.url)
                fields: dict[str, str] = {}
                async for line in answer.aiter_lines():
                    name, _, value = line.partition(":")
                    if line and name:
                        fields[name] = value.removeprefix(" ")
                    elif not line:
                        if "event" in fields:
                            yield Event(fields["event"], fields.get("id", ""), fields.get("data", ""))
                        fields = {}
        except httpx.TransportError as failure:
            raise self._unreachable(failure) from None

    async def _repeat(self, method: str, path: str, patience: float, **request: Any) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                return await self._once(method, path, **request)
            except ApiUnavailableError as failure:
                pause = PAUSE_SECONDS if failure.retry_after is None else failure.retry_after
                if loop.time() + pause > deadline:
                    raise
            await asyncio.sleep(pause)

    async def _once(self, method: str, path: str, **request: Any) -> Any:
        try:
            answer = await self._http.request(method, path, **request)
        except httpx.TransportError as failure:
            raise self._unreachable(failure) from None
        if not answer.is_success:
            raise to_error(answer, self.url)
        try:
            return answer.json()
        except ValueError:
            raise UnavailableError(
                f"{self.url} answers, and not as Lastmile's API does. Check LASTMILE_API_URL."
            ) from None

    def _unreachable(self, failure: httpx.TransportError) -> UnavailableError:
        cause: BaseException | None = failure
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UnavailableError(
                f"The certificate of {self.url} cannot be verified ({cause.verify_message}). Is the address right? "
                "SSL_CERT_FILE names the CA of a private certificate."
            )
        if isinstance(cause, ssl.SSLError):
            return UnavailableError(f"{self.url} does not answer by TLS. Check whether its address begins with http:")
        reason = "does not answer in time" if isinstance(failure, httpx.TimeoutException) else "does not answer"
        return ApiUnavailableError(f"The API at {self.url} {reason}. Check LASTMILE_API_URL and the network.")


def _given(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (parameters or {}).items() if value is not None}
