"""Files of orders: JSON Lines and JSON arrays, and errors that name the place in the file."""

import asyncio
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lastmile.contract import ProvisionSubscriber
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.csv_orders import COLUMNS, csv_heading, csv_line
from lastmile.services.order_files.read_ahead import ReadAhead
from lastmile.services.order_files.reader import open_orders
from lastmile.services.order_files.record import InvalidRecordError
from lastmile.services.order_files.text_lines import LONGEST_LINE
from tests.support.commands import Book, Cli, lines

EXAMPLES = Path(__file__).parents[2] / "lastmile" / "examples"


def orders(file: Path) -> list[ProvisionSubscriber]:
    with open_orders(str(file)) as opened:
        return [record.order() for record in opened.records()]


def judged(file: Path) -> list[tuple[int, str]]:
    """Line and verdict of every record."""

    def verdict(record: Any) -> str:
        try:
            return str(record.order().order_id)
        except InvalidRecordError as bad:
            return str(bad)

    with open_orders(str(file)) as opened:
        return [(record.line, verdict(record)) for record in opened.records()]


def rejected(file: Path, reason: str) -> bytes:
    with open_orders(str(file)) as opened:
        return opened.form.head() + b"".join(record.rejected(reason) for record in opened.records())


def test_examples_are_the_same_orders_in_json_and_csv() -> None:
    assert orders(EXAMPLES / "orders.csv") == orders(EXAMPLES / "orders.jsonl")


def test_order_with_every_field_survives_csv(book: Book, tmp_path: Path) -> None:
    order = ProvisionSubscriber.model_validate(
        book.order(
            customer={"ref": "C-1", "name": 'Ada "the" Byron; Ltd, Zoë', "email": "a@b.nl", "phone": "+31 20"},
            plan={"name": "fiber", "download_kbps": 1, "upload_kbps": 2, "price_ref": "P"},
            line={
                "connection_type": "ftth",
                "onu_serial": "ACME00000001",
                "onu_type": "F 660",
                "speed_profile": "500,M",
                "olt": "o",
                "pon_port": "0/1",
                "cpe_mac": "00:1a:2b:00:00:01",
                "cpe_oui": "00D09E",
                "cpe_product_class": "HGW-1",
                "cpe_serial": "=1+1",
                "duid": "00:03:00:01:00:1a:2b:00:00:01",
                "s_vlan": 1,
                "c_vlan": 2,
                "circuit_id": "a,b",
                "remote_id": "r",
                "option82_policy": "enforce",
                "access": "ipoe",
                "identified_by": "circuit_id",
            },
            addressing={
                "ipv6_mode": "dual_stack",
                "ipv6_pd_size": 48,
                "ipv6_pool": "home",
                "ipv4_mode": "static",
                "ipv4_address": "192.0.2.1",
                "ipv4_pool": "static",
                "region": "north",
                "vrf": "access",
            },
            requested_by="crm",
            urgency="bulk",
            not_before="2030-01-01T00:00:00Z",
        )
    )
    line = book.order()["line"] | {"username": "ada@isp.example"}
    off = ProvisionSubscriber.model_validate(book.order(addressing={"enable_ipv6": False}, line=line))
    file = tmp_path / "all.csv"
    file.write_bytes(csv_heading(["_note"]) + b"".join(csv_line(one, {"_note": "x"}) for one in (order, off)))
    assert orders(file) == [order, off]
    with file.open(newline="") as read:
        tried, _ = csv.DictReader(read)
    assert [column for column, cell in tried.items() if not cell] == [
        "line.username",
        "addressing.enable_ipv6",
        "addressing.ipv6_prefix",
        "adopt",
        "password",
        "password_ref",
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_of_a_spreadsheet_is_read_with_any_delimiter(delimiter: str, tmp_path: Path) -> None:
    values = dict.fromkeys(COLUMNS, "") | {
        "tenant": "acme",
        "order_id": "O-1",
        "subscriber_ref": "S-1",
        "customer.ref": "C-1",
        "customer.name": '"Ada Byron; Ltd"',
        "plan.name": "fiber",
        "plan.download_kbps": "1",
        "plan.upload_kbps": "1",
        "line.connection_type": "ftth",
    }
    row = [delimiter.join(COLUMNS), delimiter.join(values.values()), delimiter * (len(COLUMNS) - 1), ""]
    file = tmp_path / "orders.csv"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(row).encode())
    (order,) = orders(file)
    assert (order.customer.name, order.line.onu_serial) == ("Ada Byron; Ltd", None)


async def test_csv_with_unknown_columns_is_refused_by_column(alone: Cli) -> None:
    ran = await alone("provision", "-", stdin="tenant,order_id,subscriber,custmer.ref,tenant,_mine,plan.colour,x y z\n")
    assert ran.code == 2
    said = ran.err.splitlines()
    assert said[0] == "Standard input cannot be read: its first row must name the columns of an order."
    assert "  subscriber: Unknown column. Did you mean 'subscriber_ref'?" in said
    assert "  custmer.ref: Unknown column. Did you mean 'customer.ref'?" in said
    assert "  tenant: is named 2 times" in said
    assert any(line.startswith("  x y z: Unknown column. Valid columns: tenant, order_id") for line in said)
    assert "  line.connection_type: is missing" in said
    assert not any("_mine" in line or line.startswith("  addressing") for line in said)


NARROW = "tenant,order_id,subscriber_ref,customer.ref,customer.name,plan.name,plan.download_kbps,plan.upload_kbps,"
NARROW += "line.connection_type"


def test_csv_rows_that_are_not_orders_are_refused_by_line(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_bytes(
        NARROW.encode()
        + b"\nacme,O-1,S-1,C-1,Ada,fiber,1,1,ftth"
        + b"\nacme,O-2,S-2,C-1,Ada,fiber,1"
        + b'\nacme,O-3,S-3,C-1,"Ada" B,fiber,1,1,ftth'
        + b"\nacme,O-4,S-4,C-1,Zo\xeb,fiber,1,1,ftth"
        + b"\nacme,O-5,S-5,C-1,Ada,fiber,fast,1,"
        + b"\nacme,O-6,S-6,C-1,Ada,fiber,1,1,ftth"
        + b'\nacme,O-7,S-7,C-1,"Ada,fiber,1,1,ftth\n'
    )
    assert judged(file) == [
        (2, "O-1"),
        (3, "plan.upload_kbps: is missing; line.connection_type: is missing"),
        (4, 'Invalid CSV: a quote (") inside a quoted cell must be written twice'),
        (5, "customer.name: must be text in UTF-8, and is 'Zo\\udceb'"),
        (
            6,
            "plan.download_kbps: must be a whole number, written in digits only, as in 100000, and is 'fast'; "
            "line.connection_type: is missing",
        ),
        (7, "O-6"),
        (8, 'Invalid CSV: a quote (") opens and nothing closes it'),
    ]


def test_csv_rejects_can_be_fixed_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_bytes(
        NARROW.encode() + b'\nacme,O-1,S-1,C-1,"Ada" B,fiber,1,1,ftth\nacme,O-2,S-2,C-1,Zo\xeb,fiber,1,1,dsl\n'
    )
    rejects = tmp_path / "rejects.csv"
    rejects.write_bytes(rejected(file, "no, not this"))
    assert rejects.read_bytes().splitlines()[0].startswith(b"_rejected,tenant,")
    assert rejects.read_bytes().splitlines()[1] == b'"no, not this",acme,O-1,S-1,C-1,"Ada" B,fiber,1,1,ftth'
    rejects.write_bytes(rejected(rejects, "again"))
    fixed = rejects.read_bytes().replace(b'"Ada" B', b'"Ada B"').replace(b"\xeb", b"e").replace(b"dsl", b"ftth")
    assert b"Zoe" in fixed
    assert fixed.count(b"again") == 2
    assert fixed.count(b"no, not this") == 1, "only what could not be taken apart keeps its old reason"
    rejects.write_bytes(fixed.replace(b'again,"no, not this",', b"again,"))
    assert [order.customer.name for order in orders(rejects)] == ["Ada B", "Zoe"]


def test_jsonl_rejects_can_be_fixed_and_read_again(book: Book, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    odd = b'{"tenant": "acme",,\nnot json\n[1]\n{"tenant": "\xeb"}\n'
    file.write_bytes(lines(book.order(1, tenant="Acme", _mine=1)).encode() + odd)
    rejects = tmp_path / "rejects.jsonl"
    rejects.write_bytes(rejected(file, "no"))
    once = [reason for _, reason in judged(rejects)]
    assert once == [reason for _, reason in judged(file)], "the notes are not orders"
    rejects.write_bytes(rejected(rejects, "still no"))
    assert rejects.read_bytes().count(b"still no") == 5
    assert b'{"_rejected": "no"}' not in rejects.read_bytes()
    fixed = rejects.read_text(errors="replace").replace("Acme", "acme").splitlines()[0]
    rejects.write_text(fixed)
    (order,) = orders(rejects)
    assert order == ProvisionSubscriber.model_validate(book.order(1))
    assert '"_mine": 1' in fixed


def test_file_that_is_not_an_order_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_bytes(b"{" + b"x" * LONGEST_LINE)
    with pytest.raises(InvalidInputError, match="line 1 is too long for an order"):
        orders(file)
    with pytest.raises(InvalidInputError, match="Is a directory"):
        orders(tmp_path)


async def test_read_ahead_is_bounded_and_loses_no_item_in_a_cancel() -> None:
    read = []

    def items() -> Iterator[int]:
        for item in range(100):
            read.append(item)
            yield item
        raise InvalidInputError("torn")

    source = ReadAhead(items(), 10)
    found: list[int] = []

    async def consume() -> None:
        while True:
            waiting = asyncio.create_task(source.batch())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            got = await source.batch() if waiting.cancelled() else waiting.result()
            assert 0 < len(got) <= 10, "nothing is the end"
            found.extend(got)
            assert len(read) - len(found) <= 11

    with pytest.raises(InvalidInputError, match="torn"):
        await consume()
    assert found == list(range(100))
