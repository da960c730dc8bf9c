"""Files of orders that provision and orders that deprovision, as JSON Lines and as CSV."""

import json
from pathlib import Path

import pytest

from lastmile.contract import (
    DeprovisionSubscriber,
    Operation,
    ProvisionSubscriber,
    RelocateLine,
    ReplaceDevice,
    TransferLine,
)
from lastmile.contract.lines import Customer
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.reader import read_orders
from tests.support.commands import Book, Cli, lines

OPERATION_NAMES = ", ".join(f"'{operation}'" for operation in Operation)
DOWN = {
    "operation": "deprovision",
    "tenant": "acme",
    "order_id": "D-1",
    "subscriber_ref": "S-9",
    "reason": "moved away",
}


def test_jsonl_with_both_operations_is_read(book: Book, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(lines(book.order(), book.order(2, operation="provision"), DOWN))
    orders = [one.order for one in read_orders(str(file))]
    assert [type(order) for order in orders] == [ProvisionSubscriber, ProvisionSubscriber, DeprovisionSubscriber]
    assert orders[2] == DeprovisionSubscriber(tenant="acme", order_id="D-1", subscriber_ref="S-9", reason="moved away")


def test_csv_with_both_operations_is_read(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        "operation,tenant,order_id,subscriber_ref,reason,customer.ref,customer.name,plan.name,plan.download_kbps,"
        "plan.upload_kbps,line.connection_type\n"
        "deprovision,acme,D-1,S-9,moved away,,,,,,\n"
        ",acme,O-1,S-8,,C-1,Ada,fiber,1000,1000,wireless\n"
    )
    orders = [one.order for one in read_orders(str(file))]
    assert [type(order) for order in orders] == [DeprovisionSubscriber, ProvisionSubscriber]


def test_csv_with_changes_of_a_line_is_read(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        "operation,tenant,order_id,subscriber_ref,cpe_mac,pon_port,c_vlan,customer.ref,customer.name\n"
        "replace_device,acme,R-1,S-9,001a.2b3c.4d5e,,,,\n"
        "relocate,acme,R-2,S-9,,1/1/2,300,,\n"
        "transfer,acme,R-3,S-9,,,,C-2,Grace\n"
    )
    orders = [one.order for one in read_orders(str(file))]
    assert orders == [
        ReplaceDevice(tenant="acme", order_id="R-1", subscriber_ref="S-9", cpe_mac="00:1a:2b:3c:4d:5e"),
        RelocateLine(tenant="acme", order_id="R-2", subscriber_ref="S-9", pon_port="1/1/2", c_vlan=300),
        TransferLine(tenant="acme", order_id="R-3", subscriber_ref="S-9", customer=Customer(ref="C-2", name="Grace")),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"operation": "pause"},
            f"operation: must be one of {OPERATION_NAMES}, and is 'pause'",
        ),
        ({"plan": {}}, "plan: "),
        ({"reason": ""}, "reason: "),
    ],
)
def test_deprovision_record_with_a_mistake_is_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(json.dumps(DOWN | change) + "\n")
    with pytest.raises(InvalidInputError) as raised:
        read_orders(str(file))
    assert f"line 1: {words}" in str(raised.value)


@pytest.mark.usefixtures("database", "worker")
async def test_import_of_both_operations_keeps_the_operation_in_rejects(cli: Cli, book: Book, tmp_path: Path) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    down = DOWN | {"subscriber_ref": book.ref()}
    unknown = DOWN | {"subscriber_ref": book.ref(7), "order_id": "D-2", "tenant": "acme", "reason": "\u0007"}
    file = tmp_path / "orders.jsonl"
    file.write_text(lines(book.order(2), down, unknown))
    assert (await cli("provision", str(file), "--check")).code == 2
    ran = await cli("provision", str(file), "--json")
    statuses = {result.get("order_id"): result["status"] for result in ran.json}
    assert statuses == {"O-2": "completed", "D-1": "completed", None: "invalid"}
    (rejected,) = (json.loads(line) for line in (tmp_path / "orders.rejects.jsonl").read_text().splitlines())
    assert (rejected["operation"], rejected["order_id"]) == ("deprovision", "D-2")


@pytest.mark.usefixtures("database", "worker")
async def test_file_of_five_types_runs_the_orders_of_a_line_in_turn(cli: Cli, book: Book) -> None:
    changes: list[dict[str, object]] = [
        {"operation": "suspend", "reason": "non-payment", "mode": "slow"},
        {"operation": "change_plan", "plan": {"name": "giga", "download_kbps": 1_000_000, "upload_kbps": 500_000}},
        {"operation": "suspend", "reason": "non-payment", "mode": "block"},
        {"operation": "resume"},
        {"operation": "replace_device", "cpe_mac": "00:1a:2b:00:00:ff"},
    ]
    common = {"tenant": "acme", "subscriber_ref": book.ref()}
    file = lines(book.order(), *({**common, "order_id": f"X-{nth}"} | one for nth, one in enumerate(changes)))

    ran = await cli("provision", "-", "--json", stdin=file)

    assert [(result["operation"], result["status"]) for result in ran.json] == [
        ("provision", "completed"),
        ("suspend", "completed"),
        ("change_plan", "completed"),
        ("suspend", "rolled_back"),
        ("resume", "completed"),
        ("replace_device", "completed"),
    ]
    assert "is suspended. Resume the line first" in ran.json[3]["reason"]
