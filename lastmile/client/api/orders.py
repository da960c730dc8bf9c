"""Start orders over the REST API, wait for their results, read their progress, cancel them and decide about steps."""

from collections.abc import Mapping, Sequence
from typing import Any, Self
from weakref import WeakValueDictionary

from pydantic import ValidationError

from lastmile.client.api.failures import AccessRefusedError
from lastmile.client.api.order_run import ApiOrderRun, order_path
from lastmile.client.api.records import ApiCaller, ApiOrder, ApiParked
from lastmile.client.api.scheduled_orders import ApiScheduledOrders
from lastmile.client.api.transport import NO_PATIENCE, Transport
from lastmile.client.credentials import Credentials
from lastmile.client.decisions import UPDATES
from lastmile.client.errors import (
    AlreadyRunningError,
    ClientError,
    NotRunningError,
    OrderIdReusedError,
    OrderRefusedError,
)
from lastmile.client.parked_runs import ParkedRun
from lastmile.contract import AnyOrder, Decision, OrderResult, Progress, workflow_id
from lastmile.errors import InvalidInputError, NonRetryableError, UnavailableError
from lastmile.settings import Settings
from lastmile.subscribers.accepted_orders import AcceptedState
from lastmile.subscribers.orders import OrderStatus
from lastmile.validation_messages import setting_mistakes

__all__ = ["LastmileApi"]

OPEN = (OrderStatus.RUNNING, OrderStatus.ROLLING_BACK)
_ACTIONS = {update: action for action, update in UPDATES.items()}
_NOT_SENT = {"requested_by", "password_ref"}


class LastmileApi:
    """The client of a Lastmile installation over its REST API: `async with LastmileApi(url, token) as lastmile`."""

    def __init__(self, url: str, token: str) -> None:
        self.transport = Transport(url, token)
        self.scheduled = ApiScheduledOrders(self.transport)
        """The scheduled orders: list, move and cancel them."""
        self._runs: WeakValueDictionary[tuple[str, str], ApiOrderRun] = WeakValueDictionary()

    @classmethod
    def connect(cls) -> Self:
        """Return the client for `LASTMILE_API_URL` and `LASTMILE_API_TOKEN`. Raises `InvalidInputError`."""
        try:
            return cls.of(Settings.load())
        except ValidationError as failure:
            problems = setting_mistakes(failure, Settings)
            raise InvalidInputError("The environment has settings that cannot be used:", problems) from None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the client for these settings. Raises `InvalidInputError`."""
        if settings.api_url is None:
            raise InvalidInputError("LASTMILE_API_URL is not set: the address of the API, as https://api.example.net.")
        if settings.api_token is None:
            raise InvalidInputError(
                f"LASTMILE_API_TOKEN is not set: an API key of {settings.api_url} (`lastmile api-key add`), or a token "
                "of its identity provider."
            )
        return cls(str(settings.api_url), settings.api_token.get_secret_value())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()

    async def caller(self) -> ApiCaller:
        """Return the caller that the token stands for. Does not wait for an API that is away."""
        return ApiCaller.model_validate(await self.transport.get("/v1/caller", patience=NO_PATIENCE))

    async def execute(self, order: AnyOrder) -> OrderResult:
        """Start the order and return its result. An order whose `not_before` is ahead returns `scheduled` at once."""
        return await (await self.start(order)).result()

    async def start(self, order: AnyOrder) -> ApiOrderRun:
        """Send the order, again and again while the API is away. The same order again returns its run, or its result.

        Raises `AlreadyRunningError` where the subscriber is being worked on, `OrderIdReusedError` where the id belongs
        to an order with other content, and `OrderRefusedError`.
        """
        try:
            answer = await self.transport.send("POST", "/v1/orders", _body(order))
        except (AlreadyRunningError, OrderIdReusedError, AccessRefusedError):
            raise
        except (ClientError, NonRetryableError, InvalidInputError) as refusal:
            raise OrderRefusedError(str(refusal)) from refusal
        found = ApiOrder.model_validate(answer)
        if found.status == AcceptedState.SCHEDULED:  # an operator may have moved the order
            found = await self.order(order.tenant, order.order_id)
        run = ApiOrderRun(self.transport, order, found)
        self._runs[order.tenant, order.order_id] = run
        return run

    def attention(self, tenant: str, order_id: str) -> str:
        """Say what an operator must decide about an order whose result is being waited for; empty for nothing."""
        run = self._runs.get((tenant, order_id))
        return run.attention if run else ""

    async def plan(self, order: AnyOrder) -> dict[str, Any]:
        """Return what the order would do: `would`, and `steps`. Nothing is done."""
        plan: dict[str, Any] = await self.transport.send(
            "POST", "/v1/orders", _body(order), headers={"Prefer": "dry-run"}
        )
        return plan

    async def order(self, tenant: str, order_id: str) -> ApiOrder:
        """Return the order as it is now."""
        return ApiOrder.model_validate(await self.transport.get(order_path(order_id), {"tenant": tenant}))

    async def orders_of(
        self, tenant: str, subscriber_ref: str, statuses: Sequence[str] = (), *, limit: int = 1
    ) -> list[ApiOrder]:
        """Return orders of the subscriber, the newest first, with one of the statuses."""
        filters = {"tenant": tenant, "subscriber": subscriber_ref, "status": list(statuses) or None, "limit": limit}
        page = await self.transport.get("/v1/orders", filters)
        return [ApiOrder.model_validate(found) for found in page["results"]]

    async def progress(self, tenant: str, subscriber_ref: str) -> Progress | None:
        """Return the progress of the subscriber's newest order that has begun; None without such an order.

        Raises `UnavailableError` where no worker answers.
        """
        newest = await self.orders_of(tenant, subscriber_ref, list(OrderStatus))
        if not newest:
            return None
        found = await self.order(tenant, newest[0].order_id)
        if found.live == "no worker":
            raise UnavailableError(f"No worker answers for order {found.order_id} of subscriber {subscriber_ref}.")
        return found.progress()

    async def open_order(self, tenant: str, subscriber_ref: str) -> ApiOrder | None:
        """Return the order of the subscriber that is at work, or else the first that waits to be started."""
        found = await self.orders_of(tenant, subscriber_ref, [*OPEN, AcceptedState.WAITING], limit=100)
        return next((order for order in found if order.status in OPEN), found[-1] if found else None)

    async def cancel(self, tenant: str, subscriber_ref: str, *, reason: str = "by the client") -> None:
        """Ask the running order to stop and roll back. Raises `NotRunningError` and `PastPivotError`."""
        if (order := await self.open_order(tenant, subscriber_ref)) is None:
            raise NotRunningError(f"No order of subscriber {subscriber_ref} is running.")
        path = f"{order_path(order.order_id)}/cancel"
        await self.transport.send("POST", path, {"reason": reason}, tenant=tenant, patience=NO_PATIENCE)

    async def decide(self, tenant: str, subscriber_ref: str, update: str, decision: Decision) -> str:
        """Send a decision (`retry_step`, `skip_step` or `abandon`) about the parked step, and return the answer.

        The audit log names the caller of the token, and not `decision.by`.

        Raises `NotRunningError` where nothing is parked, and `UnavailableError` where no worker answers.
        """
        found = await self.orders_of(tenant, subscriber_ref, OPEN)
        if not found:
            raise NotRunningError(f"No order of subscriber {subscriber_ref} is running.")
        body = {"decision": _ACTIONS[update], "why": decision.why, "step": decision.step}
        path = f"{order_path(found[0].order_id)}/decision"
        answer = await self.transport.send("POST", path, body, tenant=tenant, patience=NO_PATIENCE)
        return str(answer["done"])

    async def parked_runs(self, tenant: str | None = None, step: str | None = None) -> list[ParkedRun]:
        """Return the parked orders, the longest waiting first: all, or those of one tenant or at one step."""
        page = await self.transport.get("/v1/attention", {"tenant": tenant, "step": step})
        return [_parked(found) for found in page["results"]]

    async def credentials(self, tenant: str, subscriber_ref: str, *, asked_by: str) -> Credentials:
        """Raise `InvalidInputError`: the API shows no password."""
        raise InvalidInputError("The REST API shows no password. `lastmile credentials` does, with the database.")


def _body(order: AnyOrder) -> dict[str, Any]:
    body = order.model_dump(mode="json", exclude_defaults=True, exclude=_NOT_SENT)
    password = getattr(order, "password", None)
    if password is not None:
        body["password"] = password.get_secret_value()
    return {"operation": order.operation.value} | body


def _parked(found: Mapping[str, Any]) -> ParkedRun:
    order = ApiParked.model_validate(found)
    return ParkedRun(workflow_id=workflow_id(order.tenant, order.subscriber_ref), run_id="", **dict(order))
