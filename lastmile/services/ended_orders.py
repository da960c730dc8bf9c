"""The results of orders that have ended, from the database: the same order again needs no run."""

from collections.abc import Callable, Sequence
from typing import Self

from lastmile.contract import AnyOrder, OrderResult
from lastmile.db import Database
from lastmile.db.access import database_failures
from lastmile.errors import UnavailableError
from lastmile.subscribers.orders import read_ended_orders

__all__ = ["EndedOrders"]


class EndedOrders:
    """Looks up results in the database at `url`.

    While the database does not answer, every order counts as new: the order takes a run, which gives the same result.
    `warn` gets a sentence about that.
    """

    def __init__(self, url: str | None, warn: Callable[[str], None]) -> None:
        self._url = url
        self._database = Database(url, pool_size=1) if url else None
        self._warn = warn
        self._away = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._database:
            await self._database.close()

    async def results(self, orders: Sequence[AnyOrder]) -> dict[AnyOrder, OrderResult]:
        """Return the results of the orders that have ended. An order whose id has other content has no result."""
        if self._database is None or self._url is None or not orders:
            return {}
        try:
            async with database_failures(self._url), self._database.platform() as connection:
                found = await read_ended_orders(connection, [(order.tenant, order.order_id) for order in orders])
        except UnavailableError as failure:
            if not self._away:
                self._warn(f"{failure} Orders that have ended already take a run each meanwhile.")
            self._away = True
            return {}
        self._away = False
        ended = ((order, found.get((order.tenant, order.order_id))) for order in orders)
        return {
            order: OrderResult.model_validate(known.result).model_copy(update={"outdated": known.outdated})
            for order, known in ended
            if known is not None and known.digest == order.digest
        }
