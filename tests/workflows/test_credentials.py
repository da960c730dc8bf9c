"""Passwords that orders give: stored encrypted before Temporal sees the order. Credentials that a client shows."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.accounts import AccountActivities
from activities.messages import StepContext
from lastmile.client import (
    AlreadyRunningError,
    Credentials,
    CredentialStore,
    KeyRing,
    Lastmile,
    OrderRefusedError,
    ProvisionSubscriber,
)
from lastmile.contract import ResultStatus
from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.errors import GivenPasswordError
from lastmile.settings import Settings
from lastmile.subscribers.errors import UnknownSubscriberError
from lastmile.subscribers.orders import open_order
from lastmile.worker import build_worker
from tests.support.faults import Faults, Gate, broken, once
from tests.support.orders import NEW_PLAN, Orders, outcomes, what_is_there
from tests.workflows.test_takeover import lost

KEY = base64.b64encode(bytes(range(32))).decode()
RING = KeyRing.parse(f"k1:{KEY}")
PASSWORD = r"Ada\'s \"100%\" #0x%{User-Name}`"


def given(orders: Orders, order_id: str = "O-1", password: str = PASSWORD) -> ProvisionSubscriber:
    return orders.provision(order_id, password=SecretStr(password))


@pytest.fixture
async def crm(
    client: Client, settings: Settings, database: Database, owner_url: str, authorization: DynamicAuthorization
) -> AsyncIterator[Lastmile]:
    """A client with a database and keys, and a running worker with keys. The payloads in Temporal are in clear text."""
    keyed = settings.model_copy(update={"encryption_keys": SecretStr(f"k1:{KEY}")})
    async with build_worker(client, keyed, database, authorization):
        yield Lastmile(client, task_queue=settings.task_queue, credentials=CredentialStore(owner_url, RING))


async def test_given_password_reaches_radius_and_no_history_log_or_error(
    crm: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    faults.after = {"create_radius_account": once(broken)}
    with capture_logs() as logs:
        run = await crm.start(given(orders))
        result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    history = (await run.handle.fetch_history()).to_json()
    assert orders.ref in history
    assert "Ada" not in history.replace("Ada Example", "")
    assert PASSWORD not in repr(logs) + repr(given(orders)) + str(given(orders))
    assert await owner.fetchval("SELECT value FROM radcheck") == PASSWORD
    assert await owner.fetchval("SELECT count(*) FROM given_passwords") == 0
    assert (await crm.execute(given(orders))).status is ResultStatus.COMPLETED, "the same order again"
    assert await owner.fetchval("SELECT count(*) FROM given_passwords") == 0


async def test_credentials_are_shown_and_the_audit_log_names_who_asked(
    crm: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    with pytest.raises(UnknownSubscriberError, match="has no RADIUS account"):
        await crm.credentials("acme", orders.ref, asked_by="installer 7")
    await crm.execute(given(orders))
    shown = await crm.credentials("acme", orders.ref, asked_by="installer 7")
    assert shown == Credentials("acme", orders.ref, f"{orders.ref}@acme.lastmile", PASSWORD)
    entries = await owner.fetch("SELECT actor, tenant_id, subscriber_ref, record FROM audit_log WHERE action = 'read'")
    assert [tuple(entry) for entry in entries] == [("installer 7", "acme", orders.ref, "radcheck")]
    with pytest.raises(UnknownSubscriberError):
        await crm.credentials("other", orders.ref, asked_by="installer 7")


async def test_given_password_is_refused_without_a_store_or_a_key(
    lastmile: Lastmile, orders: Orders, owner_url: str, settings: Settings
) -> None:
    with pytest.raises(InvalidInputError, match="has no database"):
        await lastmile.start(given(orders))
    without = Lastmile(lastmile.client, task_queue=settings.task_queue, credentials=CredentialStore(owner_url, None))
    with pytest.raises(InvalidInputError, match="no key to store it encrypted"):
        await without.start(given(orders))
    with_key = Lastmile(lastmile.client, task_queue=settings.task_queue, credentials=CredentialStore(owner_url, RING))
    result = await with_key.execute(given(orders))
    assert result.status is ResultStatus.ROLLED_BACK
    assert "this worker cannot decrypt it" in result.reason
    assert outcomes(result)["create_radius_account"] == "failed"


async def test_another_password_under_the_same_order_id_is_refused(
    crm: Lastmile, orders: Orders, owner_url: str
) -> None:
    store = CredentialStore(owner_url, RING)
    assert (await store.store_password(given(orders))).password is None  # type: ignore[union-attr]
    with pytest.raises(GivenPasswordError, match="was sent with another password"):
        await store.store_password(given(orders, password="another"))


async def test_password_of_an_order_that_takes_over_replaces_the_lost_orders(
    crm: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await lost(crm, given(orders), faults, "activate_onu")
    result = await crm.execute(given(orders, "O-2", "the second"))
    assert result.status is ResultStatus.COMPLETED
    made = "SELECT order_id FROM audit_log WHERE record = 'radcheck' AND action = 'created'"
    assert await owner.fetchval(made) == "O-1", "the lost order made the account"
    assert await owner.fetchval("SELECT value FROM radcheck") == "the second"


async def test_another_password_for_a_line_in_service_is_refused(
    crm: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await crm.execute(given(orders))
    before = await what_is_there(owner)
    result = await crm.execute(given(orders, "O-2", "the second"))
    assert result.status is ResultStatus.ROLLED_BACK
    assert "exists since order O-1 with another password. Order rotate_credentials" in result.reason
    assert await what_is_there(owner) == before
    assert (await crm.execute(given(orders, "O-3"))).status is ResultStatus.COMPLETED, "the same password"


async def test_order_that_is_refused_before_its_first_step_leaves_no_password(
    crm: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await crm.execute(given(orders))
    with pytest.raises(OrderRefusedError, match="the order asks for another"):
        await crm.execute(orders.provision("O-2", plan=NEW_PLAN, password=SecretStr(PASSWORD)))
    assert await owner.fetchval("SELECT count(*) FROM given_passwords") == 0


async def test_order_that_is_not_started_beside_another_leaves_no_password(
    crm: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    gate = faults.before["create_customer"] = Gate()
    run = await crm.start(given(orders))
    await gate.reached.wait()
    with pytest.raises(AlreadyRunningError):
        await crm.start(given(orders, "O-2"))
    assert await owner.fetchval("SELECT array_agg(order_id) FROM given_passwords") == ["O-1"]
    gate.open()
    assert (await run.result()).status is ResultStatus.COMPLETED
    assert (await crm.execute(given(orders, "O-2"))).status is ResultStatus.COMPLETED


@pytest.mark.parametrize(
    "password",
    ["", "x" * 129, " x", "x\n", "'quoted'", "`id`"],
    ids=["empty", "long", "padded", "line", "quoted", "run"],
)
def test_password_that_freeradius_cannot_check_is_refused_without_its_value(orders: Orders, password: str) -> None:
    with pytest.raises(ValidationError) as failure:
        given(orders, password=password)
    assert not password.strip() or password not in str(failure.value)


def test_password_of_an_ipoe_line_is_refused(orders: Orders) -> None:
    line = Line(connection_type="ftth", access="ipoe", username="a")
    with pytest.raises(ValidationError, match=r"password needs line\.access 'pppoe'"):
        orders.provision(password=SecretStr("x"), line=line)


async def test_rotate_credentials_replaces_the_password_and_nothing_else(
    crm: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await crm.execute(given(orders))
    before = await what_is_there(owner)
    faults.after = {"replace_password": once(broken)}
    result = await crm.execute(orders.rotate_credentials(password=SecretStr("the second")))
    assert result.status is ResultStatus.COMPLETED
    assert result.created.radius_username == f"{orders.ref}@acme.lastmile"
    after = await what_is_there(owner)
    assert {table for table, rows in after.items() if rows != before[table]} == {"radcheck"}
    assert await owner.fetchval("SELECT value FROM radcheck") == "the second"
    assert (await crm.execute(orders.rotate_credentials("O-3"))).status is ResultStatus.COMPLETED
    assert len(await owner.fetchval("SELECT value FROM radcheck")) >= 20, "generated"


async def test_restore_password_brings_the_former_password_back(
    crm: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    database: Database,
    authorization: DynamicAuthorization,
) -> None:
    """Without a workflow: the step shares its transaction with the closing, and seldom commits before an undo."""
    await crm.execute(given(orders))
    before = await what_is_there(owner)
    steps, run = AccountActivities(database, authorization, timedelta(days=1)), ActivityEnvironment().run
    ref = StepContext(tenant="acme", order_id="O-2", subscriber_ref=orders.ref)
    async with database.tenant("acme") as connection:
        await open_order(connection, "acme", "O-2", "rotate_credentials", orders.ref, "d", "r1")
    await run(steps.replace_password, ref, None)
    assert await owner.fetchval("SELECT value FROM radcheck") != PASSWORD
    await owner.execute("UPDATE orders SET status = 'rolling_back' WHERE order_id = 'O-2'")
    await run(steps.restore_password, ref.model_copy(update={"undo": True}))
    assert await what_is_there(owner) == before


async def test_rotate_credentials_of_an_ipoe_line_is_rolled_back(lastmile: Lastmile, orders: Orders) -> None:
    await lastmile.execute(orders.provision(line=Line(connection_type="ftth", access="ipoe", username=orders.ref)))
    result = await lastmile.execute(orders.rotate_credentials())
    assert result.status is ResultStatus.ROLLED_BACK
    assert "the line is an IPoE line" in result.reason
