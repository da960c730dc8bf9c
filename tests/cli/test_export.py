"""`lastmile export`: `lastmile provision` reads its output and creates the same subscribers."""

from pathlib import Path
from typing import Any

import asyncpg

from ipam.pools import add_pool
from lastmile.contract import ProvisionSubscriber
from lastmile.db import Database
from lastmile.services.order_files.reader import open_orders
from lastmile.services.subscriber_export import PAGE
from lastmile.subscribers.tenants import add_tenant
from tests.conftest import POOLS
from tests.support.commands import Book, Cli, lines


def orders(file: Path) -> list[ProvisionSubscriber]:
    with open_orders(str(file)) as opened:
        return [record.order() for record in opened.records()]


def in_twin(order: ProvisionSubscriber) -> ProvisionSubscriber:
    vrf = "twin" if order.addressing.needs() else None
    addressing = order.addressing.model_copy(update={"vrf": vrf})
    return order.model_copy(update={"tenant": "twin", "addressing": addressing})


def env(book: Book) -> list[dict[str, Any]]:
    static = {"ipv6_mode": "dual_stack", "ipv4_mode": "static", "ipv6_pd_size": 48}
    wireless = {"connection_type": "wireless", "s_vlan": 7, "circuit_id": 'a, "b"', "option82_policy": "enforce"}
    onu = {"onu_serial": "ACME0000000A", "onu_type": "F 660", "speed_profile": "500M"}
    cpe = {"cpe_oui": "00D09E", "cpe_product_class": "HGW-1", "cpe_serial": "CPE, 1", "duid": "00:03:00:01:1a"}
    return [
        book.order(1, addressing=static | {"ipv4_address": "198.51.100.2"}),
        book.order(2, customer={"ref": "C-2", "name": "Zoë; née Ö", "email": "z@example.net", "phone": "+31 20 1"}),
        book.order(3, line=wireless, addressing={"enable_ipv6": False}),
        book.order(
            4,
            plan={"name": "a-b-1", "download_kbps": 300, "upload_kbps": 200, "price_ref": "P.1"},
            line={"connection_type": "ftth", **onu, **cpe},
        ),
    ]


async def test_export_can_be_imported_again(
    cli: Cli, book: Book, worker: None, database: Database, tmp_path: Path
) -> None:
    assert (await cli("provision", "-", stdin=lines(*env(book)))).code == 0
    first, csv, copy, back = (tmp_path / name for name in ("a.jsonl", "a.csv", "b.csv", "c.csv"))
    for file in (first, csv):
        ran = await cli("export", "--tenant", "acme", "-o", str(file))
        assert (ran.code, ran.out, ran.err) == (0, "", f"4 orders exported to {file}.\n")
    assert orders(first) == orders(csv)
    assert (await cli("export", "--format", "csv")).out == csv.read_text()
    assert (await cli("export")).out == first.read_text()
    exported = {order.order_id: order for order in orders(first)}
    for sent in map(ProvisionSubscriber.model_validate, env(book)):
        order = exported[sent.order_id]
        assert order.model_dump(exclude={"addressing"}) == sent.model_dump(exclude={"addressing"})
        assert [need.purpose for need in order.addressing.needs()] == [need.purpose for need in sent.addressing.needs()]
    assert str(exported["O-1"].addressing.ipv4_address) == "198.51.100.2"
    assert (exported["O-1"].addressing.ipv6_pool, exported["O-2"].addressing.ipv6_pool) == ("business", "home")
    assert '"_ipv6_prefix": "2001:db8:' in first.read_text()

    # Into an empty tenant with the same pools in another VRF, one after the other, so that the prefixes are the same.
    async with database.platform() as connection:
        await add_tenant(connection, "twin", "Twin")
        for pool in POOLS:
            if pool.tenant == "acme":
                await add_pool(connection, pool.model_copy(update={"tenant": "twin", "vrf": "twin"}))
    twins = csv.read_text().replace("acme", "twin").replace(",addressing.vrf", ",_", 1)
    vrfs = ("addressing.vrf", "twin", "twin", "", "twin")  # the third has no address
    twins = "\n".join(f"{row},{vrf}" for row, vrf in zip(twins.splitlines(), vrfs, strict=True))
    for row in twins.splitlines()[1:]:
        copy.write_text(f"{twins.splitlines()[0]}\n{row}\n")
        assert (await cli("provision", str(copy))).code == 0
    assert (await cli("export", "--tenant", "twin", "-o", str(back))).code == 0
    assert orders(back) == [in_twin(order) for order in orders(csv)]
    again = await cli("provision", str(back), "--json")
    assert {result["status"] for result in again.json} == {"completed"}
    assert (await cli("export", "--tenant", "twin", "--format", "csv")).out == back.read_text()


async def test_export_names_omitted_subscribers_with_the_reason(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    await cli("provision", "-", stdin=lines(*map(book.order, (1, 2, 3, 4, 5))))
    await cli("suspend", book.ref(5), "--tenant", "acme", "--mode", "block", "--reason", "unpaid")
    await cli("deprovision", book.ref(4), "--tenant", "acme", "--reason", "moved away")
    busy = "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status) VALUES "
    await owner.execute(f"{busy} ('acme', 'D-1', 'deprovision', 'ends', $1, '', '', 'running')", book.ref(1))
    await owner.execute("DELETE FROM radusergroup WHERE username = $1", f"{book.ref(2)}@acme.lastmile")
    ran = await cli("export", "--tenant", "acme")
    assert ran.code == 0
    assert [line.split('"order_id": ')[1][:5] for line in ran.out.splitlines()] == ['"O-3"']
    assert ran.err.splitlines() == [
        "1 orders exported.",
        "3 subscribers were left out:",
        f"  {book.ref(1)}: an order of it has not ended",
        f"  {book.ref(2)}: it has no RADIUS account",
        f"  {book.ref(5)}: it is suspended, and a provision puts it into service",
    ]


async def test_export_of_more_than_a_page_is_complete(cli: Cli, database: Database, owner: asyncpg.Connection) -> None:
    count = 2 * PAGE
    await owner.execute(
        f"""
        WITH nth AS (SELECT 'S-' || lpad(n::text, 5, '0') AS ref FROM generate_series(1, {count}) AS n),
        c AS (INSERT INTO customers (tenant_id, ref, name, created_by_order)
              VALUES ('acme', 'C', 'Ada', 'O') RETURNING id),
        s AS (INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
              SELECT 'acme', nth.ref, c.id, 'O-' || nth.ref FROM nth, c RETURNING id, ref),
        l AS (INSERT INTO network_profiles (tenant_id, subscriber_id, connection_type, option82_policy,
                                            created_by_order)
              SELECT 'acme', id, 'ftth', 'log', '' FROM s),
        b AS (INSERT INTO billing_services (tenant_id, subscriber_id, plan, status, created_by_order)
              SELECT 'acme', id, 'fiber', 'active', '' FROM s),
        a AS (INSERT INTO radcheck (username, attribute, op, value)
              SELECT ref || '@acme.lastmile', 'Cleartext-Password', ':=', 'p' FROM s)
        INSERT INTO radusergroup (username, groupname)
        SELECT ref || '@acme.lastmile', 'fiber-1-1@acme.lastmile' FROM s
        """
    )
    ran = await cli("export")
    assert (ran.err, len(set(ran.out.splitlines()))) == (f"{count:,} orders exported.\n", count)


async def test_export_to_an_output_that_cannot_be_written_is_refused(
    cli: Cli, database: Database, tmp_path: Path
) -> None:
    ran = await cli("export", "--format", "csv")
    assert (ran.code, ran.out.count("\n"), ran.err) == (0, 1, "0 orders exported.\n")
    ran = await cli("export", "--tenant", "nobody", "-o", str(tmp_path / "x"))
    assert (ran.code, "There is no tenant 'nobody'" in ran.err) == (2, True)
    ran = await cli("export", "-o", str(tmp_path / "no" / "x.csv"))
    assert (ran.code, "cannot be written: No such file or directory" in ran.err) == (2, True)
    assert not list(tmp_path.glob("x*"))
    ran = await cli("export", "--format", "csv", "-o", "/dev/full")
    assert (ran.code, ran.err) == (2, "--output: /dev/full cannot be written: No space left on device.\n")
    ran = await cli.but(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")("export", "-o", str(tmp_path / "x"))
    assert (ran.code, list(tmp_path.glob("x*"))) == (3, [])
