"""What is wrong with orders, options and settings is said at once, where it is, and before anything starts."""

import asyncio
import json
import sys
from typing import Any

import pytest

from cli.exits import BadInput
from cli.mistakes import PATTERN_WORDS
from cli.order_file import read_orders
from tests.cli.conftest import Book, Cli, lines
from workflows.contract import DeprovisionSubscriber, ProvisionSubscriber


async def test_five_mistakes_in_one_order(alone: Cli, book: Book) -> None:
    order = book.order(tenant="Acme", plan={"name": "fiber", "download_kbps": 0, "upload_kbps": "fast"})
    order["line"] |= {"s_vlan": 5000, "cpe_macs": "1"}
    ran = await alone("provision", "-", "--dry-run", stdin=lines(book.order(2), order))
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "Standard input has 5 mistakes; no order was started:",
        "  line 2: tenant: must be lower-case letters, digits and '-', at most 32 characters, and is 'Acme'",
        "  line 2: plan.download_kbps: must be at least 1, and is 0",
        "  line 2: plan.upload_kbps: must be a whole number, and is 'fast'",
        "  line 2: line.s_vlan: must be at most 4094, and is 5000",
        "  line 2: line.cpe_macs: Unknown field. Valid fields: connection_type, onu_serial, olt, pon_port, cpe_mac, "
        "s_vlan, c_vlan, circuit_id, remote_id, option82_policy. Did you mean 'cpe_mac'?",
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"customer": {"ref": "C-1"}}, "customer.name: is missing"),
        ({"line": {"connection_type": "dsl"}}, "line.connection_type: must be 'ftth', 'fttb', 'wireless' or 'hybrid'"),
        ({"line": {"connection_type": "ftth", "cpe_mac": "01:00:00:00:00:01"}}, "line.cpe_mac: must be a unicast"),
        ({"addressing": {"ipv6_mode": "dual_stack"}}, "addressing: ipv6_mode 'dual_stack' needs ipv4_mode"),
        ({"addressing": {"ipv6_pd_size": 47}}, "addressing.ipv6_pd_size: must be at least 48, and is 47"),
        ({"customer": []}, "customer: must be an object"),
        ({"plan": {"name": "", "download_kbps": 1, "upload_kbps": 1}}, "plan.name: must be"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], complaint: str, book: Book, tmp_path: Any) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(lines(book.order(**change)))
    with pytest.raises(BadInput) as raised:
        read_orders(str(file))
    assert f"  line 1: {complaint}" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2


async def test_lines_that_are_no_orders(alone: Cli, book: Book) -> None:
    ran = await alone("provision", "-", "--check", stdin="\ufeff" + lines(book.order()) + "\nnot json\n[1]\n")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "line 3: Invalid JSON at character 1",
        "line 4: must be an object, as in {…}, and is [1]",
    ]
    assert ran.out == "Nothing was started. 1 of 3 lines are orders, 2 are not.\n"
    assert "has no orders" in (await alone("provision", "-", stdin="\n \n")).err
    ran = await alone("provision", "nowhere.jsonl")
    assert (ran.code, ran.err) == (2, "nowhere.jsonl cannot be read: No such file or directory.\n")


async def test_one_order_id_for_two_orders(alone: Cli, book: Book) -> None:
    file = lines(book.order(), book.order(2), book.order(3, order_id="O-1"))
    ran = await alone("provision", "-", "--dry-run", stdin=file)
    assert ran.code == 2
    assert "  line 3: order_id: O-1 stands on line 1 too, with other content; an id belongs to one order" in ran.err


def test_every_pattern_has_words() -> None:
    """Nobody should have to read a regular expression."""

    def patterned(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(patterned, schema))
        if not isinstance(schema, dict):
            return set()
        properties = schema.get("properties", {})
        return {name for name, field in properties.items() if '"pattern"' in json.dumps(field)} | set().union(
            *map(patterned, schema.values())
        )

    schemas = [model.model_json_schema() for model in (ProvisionSubscriber, DeprovisionSubscriber)]
    assert patterned(schemas) <= PATTERN_WORDS.keys()


async def test_options(alone: Cli, tmp_path: Any) -> None:
    ran = await alone("deprovision", "S 1", "--tenant", "acme", "--reason", "")
    assert ran.code == 2
    assert "  SUBSCRIBER: must be letters" in ran.err
    assert "  --reason: must not be empty" in ran.err
    ran = await alone("pool", "add", "home", "2001:db8::1/40", "--purpose", "pd", "--length", "56")
    assert ran.code == 2
    assert "  PREFIX: 2001:db8::1/40 has host bits set" in ran.err
    assert "  --purpose: must be 'ipv6_pd'" in ran.err
    (tmp_path / "secret").write_text("a" * 61)
    ran = await alone("nas", "add", "10.0.0.300", "--name", "bng", "--secret-file", str(tmp_path / "secret"))
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "This cannot be a NAS:",
        "  ADDRESS: must be an IP address",
        "  the secret: must be text of at most 60 characters",
    ]
    assert (await alone("provision")).code == 2


async def test_settings(alone: Cli) -> None:
    ran = await alone.but(LASTMILE_LOG_LEVEL="loud", DATABASE_URL="here")("tenant", "list")
    assert ran.code == 2
    assert ran.err.startswith("The environment has settings that cannot be used:\n  DATABASE_URL: ")
    assert "\n  LASTMILE_LOG_LEVEL: Input should be 'DEBUG'" in ran.err


async def test_help_names_the_exit_codes_and_imports_nothing_heavy(alone: Cli) -> None:
    ran = await alone("--help")
    assert ran.code == 0
    assert "3  Temporal, the database, NetBox or a server of the stack cannot be used" in ran.out
    heavy = "{'temporalio', 'sqlalchemy', 'pydantic', 'asyncpg', 'alembic', 'pynetbox'}"
    check = f"import sys, cli.app; sys.exit(' '.join({heavy} & sys.modules.keys()) or 0)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", check)
    assert await process.wait() == 0
