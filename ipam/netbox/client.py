"""Find, create, change and delete the records of Lastmile in NetBox."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from ipam.netbox.errors import (
    NetBoxAuthorizationError,
    NetBoxError,
    NetBoxNotFoundError,
    NetBoxNotReadyError,
    NotNetBoxError,
)
from ipam.netbox.http import Object, Wire
from ipam.netbox.records import KEY, TAG, BlockStamp, NetBoxRecord, Stamp
from ipam.netbox.requirements import check
from ipam.netbox.single_flight import single_flight
from ipam.prefix import Prefix
from lastmile.telemetry.metrics import NETBOX_ERRORS

__all__ = ["NetBox"]

_PREFIXES = "ipam/prefixes"

# More records than this for one key mean that NetBox does not filter by the key.
_FEW = 10


class NetBox:
    """A client of one NetBox; an async context manager. Safe for any number of tasks: `in_flight` requests at most.

    Every method raises `ipam.netbox.errors.NetBoxError`. After an `AmbiguousWriteError`, and after the cancellation of
    a task that waits here, NetBox may still carry out the request. Times are seconds; a time-out is for each part of an
    answer.

    Before the first creation the client checks that NetBox has what Lastmile needs. Until then nothing is created.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        ca_file: Path | None = None,
        connect_timeout: float = 3,
        read_timeout: float = 10,
        in_flight: int = 4,
        link: str | None = None,
    ) -> None:
        """`link` is the URL of a page about a subscriber, with `{tenant}` and `{subscriber}`."""
        self.wire = Wire(
            url,
            token,
            ca_file=ca_file,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            in_flight=in_flight,
        )
        self._link = link
        self._checked = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.wire.close()

    async def require(self) -> None:
        """Check that NetBox has what Lastmile needs, until it has, and again after NetBox has refused a write.

        Raises `NetBoxNotReadyError` with what is missing, and `NetBoxAuthorizationError` where that is a permission of
        the token.
        """
        if not self._checked:
            await single_flight((self, "require"), self._look)

    async def _look(self) -> None:
        found = [one for one in await check(self.wire) if one.problem]
        if refused := [one for one in found if one.of_token]:
            remedies = dict.fromkeys(one.remedy for one in refused)
            raise NetBoxAuthorizationError("; ".join(one.problem for one in refused), "; ".join(remedies))
        if found:
            NETBOX_ERRORS.labels("GET", NetBoxNotReadyError.__name__).inc()
            words = "; ".join(f"{one.requirement}: {one.problem} ({one.remedy})" for one in found)
            raise NetBoxNotReadyError(f"NetBox lacks what Lastmile needs, see `lastmile netbox check`: {words}")
        self._checked = True

    @contextmanager
    def _looking_again(self) -> Iterator[None]:
        """After a failure in the block, check again what NetBox has."""
        try:
            yield
        except (NetBoxNotReadyError, NetBoxAuthorizationError):
            self._checked = False
            raise

    async def find(self, key: str) -> NetBoxRecord | None:
        """Return the record that carries this key, in any VRF; the oldest where there are several.

        Raises `NetBoxNotReadyError` where NetBox does not filter by the key: it may have a record that it did not show.
        """
        shown = await self.wire.page(_PREFIXES, limit=_FEW, ordering="id", **{f"cf_{KEY}": key})
        found = [_read(one) for one in shown]
        if ours := [one for one in found if one.key == key]:
            return ours[0]
        if found:
            raise NetBoxNotReadyError(
                f"NetBox does not filter by {KEY} exactly: `lastmile netbox check` says what is wrong"
            )
        return None

    async def available(self, parent_id: int, length: int, stamp: Stamp | BlockStamp) -> NetBoxRecord:
        """Create a record of the first free prefix of this length below the parent. Sent once.

        Raises `NetBoxExhaustedError`, `KeyTakenError`, `NetBoxNotReadyError`, and `NetBoxNotFoundError` where there is
        no such parent.
        """
        body = self._body(stamp, new=True) | {"prefix_length": length}
        return await self._create(f"{_PREFIXES}/{parent_id}/available-prefixes", body, stamp)

    async def create(self, prefix: Prefix, *, vrf_id: int | None, stamp: Stamp | BlockStamp) -> NetBoxRecord:
        """Create a record of this prefix. Sent once.

        NetBox checks uniqueness without a lock: two creations of one prefix, or of one key, side by side can both
        succeed. Raises `NetBoxInvalidError` where the VRF has the prefix already, `KeyTakenError` and
        `NetBoxNotReadyError`.
        """
        body = self._body(stamp, new=True) | {"prefix": str(prefix), "vrf": vrf_id}
        return await self._create(_PREFIXES, body, stamp)

    async def get(self, id: int) -> NetBoxRecord | None:
        """Return the record of this id, also a foreign one; None where there is none."""
        shown = await self.wire.member(_PREFIXES, id)
        return None if shown is None else _read(shown)

    async def update(self, id: int, stamp: Stamp | BlockStamp) -> NetBoxRecord:
        """Write the stamp on the record of this id. The caller has compared its key. Can be repeated.

        Raises `NetBoxNotFoundError`, and `NetBoxNotReadyError` where NetBox does not keep the key.
        """
        return await self._change(id, self._body(stamp, new=False), stamp)

    async def place(
        self, record: NetBoxRecord, prefix: Prefix, *, vrf_id: int | None, stamp: Stamp | BlockStamp
    ) -> NetBoxRecord:
        """Write the stamp, the prefix, the VRF and our tag on the record.

        Raises `NetBoxInvalidError` where the VRF has the prefix already, `KeyTakenError`, `NetBoxNotFoundError` and
        `NetBoxNotReadyError`.
        """
        tags = [{"slug": slug} for slug in dict.fromkeys((*record.tags, TAG))]
        body = self._body(stamp, new=False) | {"prefix": str(prefix), "vrf": vrf_id, "tags": tags}
        return await self._change(record.id, body, stamp)

    async def move(self, id: int, prefix: Prefix, *, vrf_id: int | None) -> NetBoxRecord:
        """Move the record of this id and change nothing else. Raises `NetBoxInvalidError` and `NetBoxNotFoundError`."""
        return _read(await self.wire.change(_PREFIXES, id, {"prefix": str(prefix), "vrf": vrf_id}))

    async def delete(self, id: int) -> None:
        """Delete the record of this id, if there is one. The caller has compared its key."""
        with suppress(NetBoxNotFoundError):
            await self.wire.remove(_PREFIXES, id)

    async def records(
        self,
        *,
        vrf_id: int | None,
        prefix: Prefix | None = None,
        within: Prefix | None = None,
        updated_since: datetime | None = None,
        ours: bool = False,
        page: int = 500,
    ) -> AsyncIterator[NetBoxRecord]:
        """Yield the records of a VRF by id: of `prefix`, below `within`, changed since, with our tag (`ours`)."""
        filters = {
            "vrf_id": vrf_id,
            **({"prefix": str(prefix)} if prefix else {}),
            **({"within": str(within)} if within else {}),
            **({"last_updated__gte": updated_since.isoformat()} if updated_since else {}),
            **({"tag": TAG} if ours else {}),
        }
        async for shown in self.wire.each(_PREFIXES, limit=page, **filters):
            one = _read(shown)
            if one.vrf_id != vrf_id:
                raise self._not_filtering()
            yield one

    async def ours_anywhere(self, *, page: int = 500) -> AsyncIterator[NetBoxRecord]:
        """Yield all records with our tag, in every VRF, by id."""
        async for shown in self.wire.each(_PREFIXES, limit=page, tag=TAG):
            one = _read(shown)
            if TAG not in one.tags:
                raise self._not_filtering()
            yield one

    async def by_ids(self, ids: Sequence[int]) -> list[NetBoxRecord]:
        """Return the records of these ids, in any VRF. About a hundred at a time: they are in the URL."""
        shown = [_read(one) async for one in self.wire.each(_PREFIXES, id=list(ids))] if ids else []
        if not {one.id for one in shown} <= set(ids):
            raise self._not_filtering()
        return shown

    async def count_ours(self, within: Prefix | None = None, *, vrf_id: int | None = None) -> int:
        """Return the number of records with our tag: below a prefix of a VRF, or altogether."""
        place = {} if within is None else {"vrf_id": vrf_id, "within": str(within)}
        return await self.wire.count(_PREFIXES, tag=TAG, **place)

    def _not_filtering(self) -> NotNetBoxError:
        return NotNetBoxError(f"what answers at {self.wire.url} does not filter as NetBox does")

    def faults(self, record: NetBoxRecord, stamp: Stamp | BlockStamp) -> list[str]:
        """Compare as `NetBoxRecord.faults`, with the link where one is configured."""
        return record.faults(self._linked(stamp))

    def _body(self, stamp: Stamp | BlockStamp, *, new: bool) -> Object:
        return self._linked(stamp).body(new=new)

    def _linked(self, stamp: Stamp | BlockStamp) -> Stamp | BlockStamp:
        if isinstance(stamp, BlockStamp) or self._link is None:
            return stamp
        # Neither the tenant nor the subscriber has a character that a URL would have to escape.
        return replace(stamp, link=self._link.format(tenant=stamp.tenant, subscriber=stamp.subscriber_ref))

    async def _create(self, path: str, body: Object, stamp: Stamp | BlockStamp) -> NetBoxRecord:
        await self.require()
        with self._looking_again():
            made = _read(await self.wire.create(path, body))
            if made.key != stamp.key:
                raise await self._taken_back(made)
        return made

    async def _change(self, id: int, body: Object, stamp: Stamp | BlockStamp) -> NetBoxRecord:
        with self._looking_again():
            changed = _read(await self.wire.change(_PREFIXES, id, body))
            if changed.key != stamp.key:
                raise NetBoxNotReadyError(f"NetBox does not keep {KEY}: `lastmile netbox check` says what is wrong")
        return changed

    async def _taken_back(self, made: NetBoxRecord) -> NetBoxNotReadyError:
        """Delete a record that could never be found again; return the error to raise."""
        words = f"NetBox does not keep {KEY}: `lastmile netbox check` says what is wrong"
        try:
            await asyncio.shield(self.delete(made.id))
        except NetBoxError as failure:
            return NetBoxNotReadyError(
                f"{words}; {made.prefix} (#{made.id}) is left there without it, delete it: {failure}"
            )
        return NetBoxNotReadyError(words)


def _read(shown: Any) -> NetBoxRecord:
    try:
        return NetBoxRecord.read(shown)
    except (KeyError, TypeError, ValueError) as failure:
        words = f"{type(failure).__name__}: {failure}"
    raise NotNetBoxError(f"what NetBox says of a prefix cannot be read ({words})")
