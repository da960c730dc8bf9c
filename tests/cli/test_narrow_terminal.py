"""Tables on a narrow terminal: values that users copy are not wrapped."""

import io

import pytest
from rich.console import Console

from lastmile.cli import output

COLUMNS = ("subscriber", "step", "reason")
ROWS = [
    ("S-1000000001", "release_ip_address", "NetBox does not answer: is it running, and is NETBOX_URL right?"),
    ("S-2", "activate_onu", ""),
]


def printed(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    paper = io.StringIO()
    console = Console(width=width, file=paper)
    monkeypatch.setattr(output, "console", console)
    console.print(output.make_table("Waiting", COLUMNS, ROWS))
    return [line.strip() for line in paper.getvalue().splitlines()]


def test_table_on_a_narrow_terminal_wraps_prose_first(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 70)
    assert [line.split()[:2] for line in lines if "S-" in line] == [
        ["S-1000000001", "release_ip_address"],
        ["S-2", "activate_onu"],
    ]
    assert len(lines) > 5, "it is folded"


@pytest.mark.parametrize("width", [35, 40])
def test_table_on_a_very_narrow_terminal_shows_one_cell_a_line(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = printed(monkeypatch, width)
    assert lines[:3] == ["Waiting", "subscriber  S-1000000001", "step        release_ip_address"]
    assert lines[-3:] == ["subscriber  S-2", "step        activate_onu", ""]


def test_table_hides_spare_columns_before_it_shows_one_field_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ("pool", "held", "purpose", "prefix")
    rows = [("home", "1,024", "ipv6_pd", "2001:db8::/32")]
    paper = io.StringIO()
    for width in (60, 34, 26, 20):
        console = Console(width=width, file=paper)
        monkeypatch.setattr(output, "console", console)
        console.print(output.make_table("", columns, rows, ("held", "purpose")))
        paper.write("--\n")

    wide, narrower, narrow, one_by_one = paper.getvalue().split("--\n")[:4]
    assert wide.split()[:4] == list(columns)
    assert narrower.split()[:3] == ["pool", "purpose", "prefix"]
    assert narrow.split()[:2] == ["pool", "prefix"]
    assert " ".join(narrow.split()).endswith("Hidden on a narrow terminal: held, purpose")
    assert one_by_one.split()[:4] == ["pool", "home", "held", "1,024"]


def test_table_of_words_wraps_between_words_on_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ("at", "by", "order", "change", "detail")
    prefix = "2001:db8:1234:5600::/56"
    rows = [("2026-05-03 14:00:00 UTC", "crm", "O-1001", f"{prefix} changed", "state allocated → active, as ordered")]
    paper = io.StringIO()
    console = Console(width=80, file=paper)
    monkeypatch.setattr(output, "console", console)

    console.print(output.make_table("S-1", columns, rows, ("order", "by")))

    lines = paper.getvalue().splitlines()
    assert lines[1].split() == ["at", "by", "change", "detail"]
    assert lines[3].split()[:5] == ["2026-05-03", "14:00:00", "UTC", "crm", prefix]
    assert lines[4].split()[0] == "changed"
    assert lines[-1].strip() == "Hidden on a narrow terminal: order"
    assert max(map(len, lines)) <= 80
