"""Files as spreadsheets and exports write them: read, or refused with one clear sentence; never guessed."""

from pathlib import Path
from typing import Any

import pytest

from lastmile.errors import InvalidInputError
from lastmile.services.order_files.csv_orders import COLUMNS
from lastmile.services.order_files.reader import open_orders
from tests.services.test_order_file import judged, orders, rejected
from tests.support.commands import Book, Cli, lines

FILES = Path(__file__).parent / "data" / "order_files"

WHOLE = "must be a whole number, written in digits only, as in 100000, and is"
TIME = "must be a time in ISO 8601 with its zone, as in 2028-09-01T08:00:00+02:00, and is"


def row(**changes: str) -> dict[str, str]:
    return {
        "tenant": "acme",
        "order_id": "O-1",
        "subscriber_ref": "S-1",
        "customer.ref": "C-1",
        "customer.name": "Ada",
        "plan.name": "fiber",
        "plan.download_kbps": "100000",
        "plan.upload_kbps": "50000",
        "line.connection_type": "ftth",
        **changes,
    }


def sheet(file: Path, *rows: dict[str, str], delimiter: str = ",", encoding: str = "utf-8", end: str = "\r\n") -> Path:
    columns = list(rows[0])
    table = [columns, *([one[column] for column in columns] for one in rows)]
    file.write_bytes("".join(delimiter.join(cells) + end for cells in table).encode(encoding))
    return file


@pytest.mark.parametrize(
    ("name", "order_ids"),
    [
        ("c-excel-16-row-blocks.csv", [f"IMP-{number}" for number in range(100, 140)]),
        ("d-sep-line.csv", ["IMP-200"]),
        ("f-mac-cr.csv", ["IMP-220", "IMP-221"]),
        ("g-array.json", ["J-1", "J-2"]),
        ("g1-array-oneline.json", ["J-1", "J-2"]),
        ("g2-pretty-object.json", ["J-3"]),
        ("h-trailing-empty-columns.csv", ["IMP-230"]),
    ],
)
def test_order_file_of_a_spreadsheet_is_read(name: str, order_ids: list[str]) -> None:
    assert [order.order_id for order in orders(FILES / name)] == order_ids


def test_order_file_with_thousands_dots_is_refused_by_row_and_column() -> None:
    said = judged(FILES / "a-excel-de-thousands.csv")
    assert [line for line, _ in said] == [2, 3, 4, 5, 6]
    assert said[3][1] == f"plan.download_kbps: {WHOLE} '1.000.000'; plan.upload_kbps: {WHOLE} '500.000'"
    assert all("plan.download_kbps: must be a whole number" in words for _, words in said)


def test_order_file_with_devices_is_normalized_or_refused() -> None:
    said = dict(judged(FILES / "j-devices.csv"))
    refused = {line: words.partition(":")[0] for line, words in said.items() if ":" in words}
    assert refused == dict.fromkeys((7, 8, 9, 13), "line.cpe_mac") | {15: "customer.phone"}
    with open_orders(str(FILES / "j-devices.csv")) as file:
        read = [record.order().line for record in file.records() if record.line not in refused]
    serials = ["HWTC1A2B00FA", "HWTC1A2B00FB", "HWTC1A2B00FC", "ALCLF12300FD", "HWTC1A2B00FE"]
    assert [one.onu_serial for one in read[:5]] == serials
    assert {one.cpe_mac for one in read[5:8]} == {f"00:1a:2b:10:01:0{last}" for last in (2, 3, 4)}


def test_order_file_with_serial_dates_is_refused() -> None:
    said = judged(FILES / "k-dates.csv")
    assert said[5] == (7, "IMP-275")
    del said[5]
    written = ["47000", "20280901", "47000,5", "01.09.2028 08:00", "2028-09-01 08:00", "47000.3333"]
    assert [words for _, words in said] == [f"not_before: {TIME} {text!r}" for text in written]


async def test_check_reports_what_the_reader_refuses(alone: Cli) -> None:
    ran = await alone("provision", str(FILES / "a-excel-de-thousands.csv"), "--check")
    assert ran.code == 2
    assert ran.err.splitlines()[0] == f"line 2: plan.download_kbps: {WHOLE} '100.000'"
    assert ran.out == "Nothing was started. 0 of 5 lines are valid orders, 5 are not.\n"
    assert (await alone("provision", str(FILES / "g-array.json"), "--check")).code == 0


@pytest.mark.parametrize(
    "cell",
    ["100.000", "100,000", "1e5", "1E+05", "100 000", "100\xa0000", "+100", "1_000", "１００", "-1", "0x10", "100.0"],
)
@pytest.mark.parametrize("column", ["plan.download_kbps", "line.s_vlan", "addressing.ipv6_pd_size"])
def test_csv_number_that_is_not_digits_is_refused(column: str, cell: str, tmp_path: Path) -> None:
    ((_, words),) = judged(sheet(tmp_path / "orders.csv", row(**{column: cell}), delimiter=";"))
    assert words == f"{column}: {WHOLE} {cell!r}"


@pytest.mark.parametrize(
    ("cell", "words"), [("TRUE", "O-1"), ("False", "O-1"), ("1", ""), ("yes", ""), ("WAHR", ""), ("on", "")]
)
def test_csv_truth_value_is_true_or_false(cell: str, words: str, tmp_path: Path) -> None:
    file = sheet(tmp_path / "orders.csv", row(**{"addressing.enable_ipv6": cell}))
    assert judged(file) == [(2, words or f"addressing.enable_ipv6: must be true or false, and is {cell!r}")]


def test_csv_blanks_and_capitals_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    changes = {"line.connection_type": "Ftth ", "plan.download_kbps": "100000\xa0", "line.access": "PPPoE"}
    (order,) = orders(sheet(tmp_path / "orders.csv", row(**changes, urgency="Bulk")))
    assert (order.line.connection_type, order.plan.download_kbps, order.urgency) == ("ftth", 100_000, "bulk")
    assert order.line.access == "pppoe"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_csv_in_an_encoding_of_a_spreadsheet_is_read(encoding: str, tmp_path: Path) -> None:
    file = sheet(tmp_path / "orders.csv", row(**{"customer.name": "Zoë ਊ"}), delimiter="\t", encoding=encoding)
    if encoding in ("utf-16-le", "utf-16-be"):  # Python writes no byte order mark with these
        file.write_bytes("\ufeff".encode(encoding) + file.read_bytes())
    (order,) = orders(file)
    assert order.customer.name == "Zoë ਊ"
    assert "Zoë".encode() in rejected(file, "no"), "rejects are UTF-8"


def test_csv_in_utf_16_that_breaks_off_is_refused(tmp_path: Path) -> None:
    file = sheet(tmp_path / "orders.csv", row(), encoding="utf-16")
    file.write_bytes(file.read_bytes()[:-1] + b"\xd8\xd8\xd8")
    with pytest.raises(InvalidInputError, match="it begins as UTF-16, and is not"):
        orders(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04rest", "is a spreadsheet or an archive, and not text: save it as CSV in UTF-8."),
        ("tenant,order_id\n".encode("utf-16-le"), "has NUL characters on line 1"),
        (b"sep=|\ntenant|order_id\n", "its delimiter is '|', and must be a comma, semicolon or tab."),
        (b'[{"tenant": "acme"}, {"tenant": ', "its JSON is incomplete"),
        (b'[\n{"tenant": "acme"}\n{"tenant": "acme"}]', "invalid JSON on line 3, at character 1."),
        (b'[{"tenant": "acme"}] 7', "invalid JSON on line 1, at character 22."),
        (b"[]", "has no orders"),
        (b'"tenant', "its first row is invalid CSV: a quote"),
    ],
)
async def test_file_of_another_format_is_refused_in_one_sentence(
    content: bytes, words: str, alone: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "orders"
    file.write_bytes(content)
    ran = await alone("provision", str(file), "--check")
    assert ran.code == 2
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


def test_csv_row_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = sheet(tmp_path / "orders.csv", row(**{"line.s_vlan": "101", "line.c_vlan": "1001"}), end="\n")
    file.write_bytes(file.read_bytes().rpartition(b",1001")[0])
    words = "The row ends after 10 of 11 cells and without a line end: the file may be cut off"
    assert judged(file) == [(2, words)]


def test_csv_row_with_more_values_than_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    cells = row()
    file.write_text(",".join(cells) + ",,\r\n" + ",".join(cells.values()) + ",,note\r\n")
    assert judged(file) == [(2, "The row has 11 cells, but the first row names 9 columns")]


def test_carriage_return_in_a_quoted_cell_is_no_line_end(tmp_path: Path) -> None:
    file = sheet(tmp_path / "orders.csv", row(**{"customer.name": '"Ada\rByron"'}), row(order_id="O-2"))
    said = judged(file)
    assert said[0][1].startswith("customer.name: must be text without control characters")
    assert said[1:] == [(3, "O-2")]


def test_json_field_that_is_given_twice_is_refused(book: Book, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    text = lines(book.order())
    twice = text.replace('"plan": {', '"plan": {"upload_kbps": 1, ').replace(
        '{"tenant"', '{"tenant": "other", "tenant"'
    )
    file.write_text(twice)
    ((line, words),) = judged(file)
    assert (line, words) == (1, "tenant: is given more than once; plan.upload_kbps: is given more than once")
    rejects = tmp_path / "rejects.jsonl"
    rejects.write_bytes(rejected(file, words))
    assert judged(rejects) == [(2, words)], "both values are kept, for a person to choose"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plan": {"name": "f", "download_kbps": True, "upload_kbps": 1}}, "must be a whole number, and is true"),
        ({"plan": {"name": "f", "download_kbps": 1000.0, "upload_kbps": 1}}, "must be a whole number, and is 1000.0"),
        ({"plan": {"name": "f", "download_kbps": "1000", "upload_kbps": 1}}, "must be a whole number, and is '1000'"),
        ({"addressing": {"enable_ipv6": 0}}, "addressing.enable_ipv6: must be true or false, and is 0"),
        ({"addressing": {"enable_ipv6": "false"}}, "addressing.enable_ipv6: must be true or false, and is 'false'"),
        ({"addressing": {"ipv4_mode": "static", "ipv4_address": 3232235777}}, "must be an IP address, written as text"),
        ({"not_before": 47000}, f"not_before: {TIME} 47000"),
        ({"not_before": "20280901"}, f"not_before: {TIME} '20280901'"),
        ({"not_before": "2028-09-01T08:00:00"}, f"not_before: {TIME} '2028-09-01T08:00:00'"),
        ({"not_before": "2028-02-30T08:00:00Z"}, "this date or time does not exist"),
        ({"not_before": "9999-12-31T23:59:59Z"}, "must be a time in the years 2000 to 2099"),
    ],
)
def test_json_value_of_another_type_is_refused(change: dict[str, Any], words: str, book: Book, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(lines(book.order(**change)))
    ((_, said),) = judged(file)
    assert words in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"tenant": NaN}', "Invalid JSON: NaN is no number in JSON"),
        ('{"tenant": ' + "9" * 5000 + "}", "Invalid JSON: a number has too many digits"),
        ('{"tenant": ' + "[" * 100_000, "Invalid JSON: it is nested too deeply"),
        ('{"tenant": "acme"', "Invalid JSON: it ends too early"),
        ('{"tenant": "acme"} {"tenant": "b"}', "Invalid JSON: the line goes on after its object, at character 19"),
    ],
)
def test_json_line_that_is_not_json_is_explained(line: str, words: str, book: Book, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(lines(book.order()) + line + "\n" + lines(book.order(2)))
    assert judged(file) == [(1, "O-1"), (2, words), (3, "O-2")]


def test_rejects_of_an_array_can_be_read_again(tmp_path: Path) -> None:
    rejects = tmp_path / "g.rejects.jsonl"
    rejects.write_bytes(rejected(FILES / "g-array.json", "no"))
    assert orders(rejects) == orders(FILES / "g-array.json")


def test_every_column_has_a_strict_type(tmp_path: Path) -> None:
    """A value that no column can mean is refused in each, or it is free text."""
    free = {
        "customer.name",
        "requested_by",
        "line.onu_type",
        "line.speed_profile",
        "line.cpe_product_class",
        "line.cpe_serial",
        "line.circuit_id",
        "line.remote_id",
        "line.username",
        "password",
        "addressing.vrf",
    }
    cpe = {"line.cpe_oui": "00D09E", "line.cpe_serial": "1"}
    for column in COLUMNS:
        ((_, words),) = judged(sheet(tmp_path / "orders.csv", row(**(cpe | {column: "=1.5E+3 ?"}))))
        assert (column in free) == (words == "O-1"), f"{column}: {words}"
