"""Requests to SmartOLT's REST API: bounded, timed, counted, each failure as a named error."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from lastmile.devices.drivers import Endpoint
from lastmile.devices.errors import ControllerUnavailableError
from lastmile.devices.smartolt.budget import HOUR_SECONDS, CallBudget
from lastmile.devices.tls import tls_failure, trusted_certificates
from lastmile.errors import LastmileError
from lastmile.fields.unsafe import escape

__all__ = ["Record", "SmartOltApi", "SmartOltRefusalError"]

Record = Mapping[str, Any]
"""An ONU or an OLT, as SmartOLT shows it."""

_AUTHENTICATION = {401, 403}
# SmartOLT may say in a 403, or in a 200, that an account has no calls left.
# Other limits, as of ONUs on a port, are refusals.
_LIMIT = re.compile(
    r"rate.?limit|too many (api )?(calls|requests)|\b(api|calls?|requests?)\b.{0,20}\b(limit|quota)", re.I
)
_NO_ONU = re.compile(r"\bno onus?\b|\bonus? (was |were )?not found|\bonu does ?n[o']t exist", re.I)


class SmartOltRefusalError(LastmileError):
    """SmartOLT has answered that it does not carry out the request. The message is SmartOLT's."""


class SmartOltApi:
    """The API of one account, until `close`. Every method raises `ControllerUnavailableError`."""

    def __init__(self, endpoint: Endpoint, budget: CallBudget) -> None:
        self.url = endpoint.url.rstrip("/")
        self._seconds = endpoint.timeout_seconds
        self._budget = budget
        self._http = httpx.AsyncClient(
            base_url=f"{self.url}/api",
            verify=trusted_certificates(endpoint),
            headers={"X-Token": endpoint.secret},
            timeout=httpx.Timeout(endpoint.timeout_seconds, pool=None),
            limits=httpx.Limits(max_connections=endpoint.in_flight),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def olts(self) -> Sequence[Record]:
        """Return the OLTs of the account."""
        return await self._list("/system/get_olts", "response", "olts")

    async def unconfigured(self, olt_id: int) -> Sequence[Record]:
        """Return the ONUs that an OLT has discovered, and that are not authorized."""
        return await self._list(f"/onu/unconfigured_onus_for_olt/{olt_id}", "response")

    async def find(self, serial: str) -> Sequence[Record]:
        """Return the authorized ONUs with a serial number."""
        try:
            return await self._read(f"/onu/get_onus_details_by_sn/{_encoded(serial)}", "onus")
        except SmartOltRefusalError as refusal:
            if _NO_ONU.search(str(refusal)):
                return []
            raise ControllerUnavailableError(
                f"SmartOLT at {self.url} does not tell whether it has ONU {serial}: {refusal}"
            ) from None

    async def authorize(self, form: Mapping[str, str]) -> None:
        """Authorize an ONU. Raises `SmartOltRefusalError`."""
        await self._send("POST", "/onu/authorize_onu", form)

    async def change(self, action: str, external_id: str, form: Mapping[str, str] | None = None) -> None:
        """Change an authorized ONU: `enable`, `disable`, `delete` or `update_onu_speed_profiles`.

        Raises:
            SmartOltRefusalError: SmartOLT does not know the ONU by this id, or it cannot be changed so.
        """
        await self._send("POST", f"/onu/{action}/{_encoded(external_id)}", form)

    async def _list(self, path: str, *keys: str) -> Sequence[Record]:
        """Return a list that every account has, also an empty one."""
        try:
            return await self._read(path, *keys)
        except SmartOltRefusalError as refusal:
            raise ControllerUnavailableError(f"SmartOLT at {self.url} refuses GET {path}: {refusal}") from None

    async def _read(self, path: str, *keys: str) -> Sequence[Record]:
        """Return a list of records, which is under one of the keys. Raises `SmartOltRefusalError`."""
        answer = await self._send("GET", path)
        found = next((answer[key] for key in keys if key in answer), None)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self._senseless("GET", path)
        return found

    async def _send(self, method: str, path: str, form: Mapping[str, str] | None = None) -> Record:
        """Return an answer of success."""
        self._budget.spend()
        reply = await self._once(method, path, form)
        try:
            answer = reply.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or "status" not in answer:
            answer = {}
        reason = escape(str(answer.get("error") or answer.get("message") or answer.get("response") or ""))[:200]
        if reply.status_code == httpx.codes.TOO_MANY_REQUESTS or (
            answer.get("status") is not True and _LIMIT.search(reason)
        ):
            raise self._budget.close(_retry_after(reply))
        if reply.status_code in _AUTHENTICATION:
            raise ControllerUnavailableError(
                f"SmartOLT at {self.url} refuses the credentials ({reply.status_code}): correct the controller's "
                "secret, which is the API key of the account."
            )
        if reply.is_server_error:
            raise ControllerUnavailableError(
                f"SmartOLT at {self.url} does not carry out {method} {path} now ({reply.status_code})."
            )
        if not answer:
            raise self._senseless(method, path)
        if reply.is_success and answer["status"] is True:
            return answer
        raise SmartOltRefusalError(reason or f"no reason ({reply.status_code})")

    async def _once(self, method: str, path: str, form: Mapping[str, str] | None) -> httpx.Response:
        try:
            return await self._http.request(method, path, data=form)
        except httpx.ConnectTimeout:
            raise self._unreachable("connecting took too long") from None
        except httpx.TimeoutException:
            raise ControllerUnavailableError(
                f"SmartOLT at {self.url} has not answered {method} {path} within {self._seconds:g} s."
            ) from None
        except httpx.ConnectError as failure:
            raise self._unreachable(tls_failure(failure)) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise self._unreachable("the address is no URL") from None
        except (httpx.TransportError, httpx.DecodingError):
            raise ControllerUnavailableError(
                f"The connection to SmartOLT at {self.url} ended before it had answered {method} {path}."
            ) from None

    def _unreachable(self, reason: str) -> ControllerUnavailableError:
        because = f" ({reason})" if reason else ""
        return ControllerUnavailableError(
            f"No SmartOLT answers at {self.url}{because}: is the controller's address that of the account, as in "
            "https://example.smartolt.com?"
        )

    def _senseless(self, method: str, path: str) -> ControllerUnavailableError:
        return ControllerUnavailableError(
            f"The answer of SmartOLT at {self.url} to {method} {path} cannot be read. Is the controller's address that "
            "of the account, as in https://example.smartolt.com?"
        )


def _encoded(name: str) -> str:
    return quote(name, safe="")


def _retry_after(reply: httpx.Response) -> float:
    """Return the seconds that SmartOLT says to wait; without them, an hour, which is the period of its limit."""
    said = reply.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() and int(said) <= HOUR_SECONDS else HOUR_SECONDS
