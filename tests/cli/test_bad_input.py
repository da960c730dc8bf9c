"""Invalid orders, options and settings: every mistake is reported with its place before anything starts."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lastmile.cli.connections import load_settings
from lastmile.client.temporal.settings import InvalidTemporalSettingsError, temporal_setting_mistakes, temporal_settings
from lastmile.contract import DeprovisionSubscriber, ProvisionSubscriber
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.reader import read_orders
from lastmile.validation_messages import PATTERN_WORDS
from tests.support.commands import Book, Cli, lines


async def test_order_with_five_mistakes_names_all_five(alone: Cli, book: Book) -> None:
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
        "  line 2: line.cpe_macs: Unknown field. Valid fields: connection_type, onu_serial, onu_type, speed_profile, "
        "olt, pon_port, cpe_mac, cpe_oui, cpe_product_class, cpe_serial, duid, s_vlan, c_vlan, "
        "circuit_id, remote_id, option82_policy, access, identified_by, username. "
        "Did you mean 'cpe_mac'?",
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"customer": {"ref": "C-1"}}, "customer.name: is missing"),
        ({"line": {"connection_type": "dsl"}}, "line.connection_type: must be 'ftth', 'fttb', 'wireless' or 'hybrid'"),
        ({"line": {"connection_type": "ftth", "cpe_mac": "01:00:00:00:00:01"}}, "line.cpe_mac: must be a unicast"),
        (
            {"line": {"connection_type": "ftth", "cpe_oui": "00:D0", "cpe_serial": "1"}},
            "line.cpe_oui: must be an OUI of six hexadecimal digits, as in 00D09E or 00-D0-9E, and is '00:D0'",
        ),
        (
            {"line": {"connection_type": "ftth", "onu_type": "F660 "}},
            "line.onu_type: must be 1 to 64 characters of printable ASCII, without a blank at the beginning or the "
            "end, and is 'F660 '",
        ),
        ({"line": {"connection_type": "ftth", "duid": "0003"}}, "line.duid: must be a DUID of 3 to 130 octets"),
        ({"line": {"connection_type": "ftth", "cpe_serial": "1"}}, "line: cpe_serial needs cpe_oui"),
        ({"addressing": {"ipv6_mode": "dual_stack"}}, "addressing: ipv6_mode 'dual_stack' needs ipv4_mode"),
        ({"addressing": {"ipv6_pd_size": 47}}, "addressing.ipv6_pd_size: must be at least 48, and is 47"),
        ({"customer": []}, "customer: must be an object"),
        ({"plan": {"name": "", "download_kbps": 1, "upload_kbps": 1}}, "plan.name: must be"),
    ],
)
def test_order_with_a_mistake_names_field_rule_and_value(
    change: dict[str, Any], complaint: str, book: Book, tmp_path: Any
) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(lines(book.order(**change)))
    with pytest.raises(InvalidInputError) as raised:
        read_orders(str(file))
    assert f"  line 1: {complaint}" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2


async def test_lines_that_are_not_orders_are_refused_by_number(alone: Cli, book: Book) -> None:
    ran = await alone("provision", "-", "--check", stdin="\ufeff" + lines(book.order()) + "\nnot json\n[1]\n")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "line 3: Invalid JSON at character 1",
        "line 4: must be an object, as in {…}, and is [1]",
    ]
    assert ran.out == "Nothing was started. 1 of 3 lines are valid orders, 2 are not.\n"
    assert "has no orders" in (await alone("provision", "-", stdin="\n \n")).err
    ran = await alone("provision", "nowhere.jsonl")
    assert (ran.code, ran.err) == (2, "nowhere.jsonl cannot be read: No such file or directory.\n")


async def test_order_id_of_two_orders_is_refused(alone: Cli, book: Book) -> None:
    file = lines(book.order(), book.order(2), book.order(3, order_id="O-1"))
    ran = await alone("provision", "-", "--dry-run", stdin=file)
    assert ran.code == 2
    assert "  line 3: order_id: O-1 is on line 1, too, with other content; an id belongs to one order" in ran.err


def test_every_pattern_of_a_model_has_a_description() -> None:
    """A message must not contain a regular expression."""

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


async def test_option_with_an_invalid_value_is_refused(alone: Cli, tmp_path: Any) -> None:
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
        "Invalid NAS:",
        "  ADDRESS: must be an IP address",
        "  the secret: must be text of at most 60 characters",
    ]
    assert (await alone("provision")).code == 2


async def test_invalid_settings_are_named_without_their_values(alone: Cli) -> None:
    ran = await alone.but(LASTMILE_LOG_LEVEL="loud", DATABASE_URL="here")("tenant", "list")
    assert ran.code == 2
    assert ran.err.startswith("The environment has settings that cannot be used:\n  DATABASE_URL: ")
    assert "\n  LASTMILE_LOG_LEVEL: must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'" in ran.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"LASTMILE_HTTP_PORT": "99999"}, "LASTMILE_HTTP_PORT: must be at most 65535"),
        ({"LASTMILE_HTTP_PORT": "9_464"}, "LASTMILE_HTTP_PORT: must be a whole number, written in digits only"),
        ({"LASTMILE_DATABASE_POOL_SIZE": "16.0"}, "LASTMILE_DATABASE_POOL_SIZE: must be a whole number"),
        ({"LASTMILE_QUARANTINE_SECONDS": "inf"}, "LASTMILE_QUARANTINE_SECONDS: must be a number, written in digits"),
        ({"LASTMILE_QUARANTINE_SECONDS": "1e300"}, "LASTMILE_QUARANTINE_SECONDS: must be a number, written in digits"),
        ({"LASTMILE_QUARANTINE_SECONDS": "315360001"}, "LASTMILE_QUARANTINE_SECONDS: must be at most 315360000"),
        ({"LASTMILE_RADIUS_TIMEOUT_SECONDS": "1_0"}, "LASTMILE_RADIUS_TIMEOUT_SECONDS: must be a number, written in d"),
        ({"LASTMILE_NETBOX_TIMEOUT_SECONDS": "nan"}, "LASTMILE_NETBOX_TIMEOUT_SECONDS: must be a number, written in d"),
        ({"LASTMILE_CODEC_ORIGIN": "https://a\nb"}, "LASTMILE_CODEC_ORIGIN: must be the origin of a page"),
        ({"NETBOX_URL": "https://netbox.example.net"}, "NETBOX_TOKEN: must be set where NETBOX_URL is"),
        ({"NETBOX_URL": "netbox"}, "NETBOX_URL: must be a URL"),
        ({"LASTMILE_NETBOX_CA_FILE": "/nowhere"}, "LASTMILE_NETBOX_CA_FILE: must be an existing file"),
        ({"DATABASE_URL": "mysql://u:secret@h/d"}, "DATABASE_URL: must be a URL that begins with 'postgres'"),
    ],
)
def test_setting_that_is_wrong_is_named_by_its_variable(
    changes: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError) as raised:
        load_settings(with_stack=False)
    said = str(raised.value).splitlines()
    assert said[0] == "The environment has settings that cannot be used:"
    assert said[1].startswith(f"  {words}")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"TEMPORAL_PROFILE": "nope"}, "TEMPORAL_PROFILE: there is no profile 'nope': {0}/temporal.toml has none"),
        ({"TEMPORAL_CONFIG_FILE": "{0}/bad.toml"}, "TEMPORAL_CONFIG_FILE: {0}/bad.toml is not valid TOML at line 1"),
        ({"TEMPORAL_CONFIG_FILE": "{0}"}, "TEMPORAL_CONFIG_FILE: {0} cannot be read: Is a directory"),
        (
            {"TEMPORAL_TLS_CLIENT_CERT_PATH": "{0}/no.pem", "TEMPORAL_TLS_CLIENT_KEY_PATH": "{0}/bad.toml"},
            "TEMPORAL_TLS_CLIENT_CERT_PATH: {0}/no.pem cannot be read: No such file or directory",
        ),
        ({"TEMPORAL_TLS_CLIENT_CERT_PATH": "{0}/a.pem"}, "TEMPORAL_TLS_CLIENT_KEY_PATH: must be set too"),
        ({"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "{0}/bad.toml"}, "must be a file in PEM"),
        ({"TEMPORAL_ADDRESS": "http://a:7233"}, "TEMPORAL_ADDRESS: must be host:port"),
        ({"TEMPORAL_ADDRESS": "a:65536"}, "TEMPORAL_ADDRESS: must be host:port"),
        ({"TEMPORAL_ADDRESS": "a:0"}, "TEMPORAL_ADDRESS: must be host:port"),
        ({"TEMPORAL_CONFIG_FILE": "{0}/odd.toml"}, "TEMPORAL_CONFIG_FILE"),
    ],
)
def test_temporal_setting_that_is_wrong_is_named_by_its_variable(
    changes: dict[str, str], words: str, tmp_path: Path
) -> None:
    (tmp_path / "temporal.toml").touch()
    (tmp_path / "bad.toml").write_text("[profile\nx=")
    (tmp_path / "odd.toml").write_text("[profile.default]\naddress=5\n")
    (tmp_path / "a.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    environment = {"TEMPORAL_CONFIG_FILE": str(tmp_path / "temporal.toml")}
    environment |= {name: value.format(tmp_path) for name, value in changes.items()}
    assert words.format(tmp_path) in "\n".join(temporal_setting_mistakes(environment))
    with pytest.raises(InvalidTemporalSettingsError):
        temporal_settings(environment)


async def test_temporal_settings_that_are_wrong_are_bad_input(alone: Cli, tmp_path: Path) -> None:
    wrong = alone.but(TEMPORAL_PROFILE="nope", TEMPORAL_TLS_SERVER_CA_CERT_PATH="/nowhere.pem")
    ran = await wrong("schedule", "list")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "The settings of Temporal cannot be used:",
        f"  TEMPORAL_PROFILE: there is no profile 'nope': {tmp_path}/temporal.toml has none",
        "  TEMPORAL_TLS_SERVER_CA_CERT_PATH: /nowhere.pem cannot be read: No such file or directory",
    ]


async def test_help_names_the_exit_codes_and_imports_nothing_heavy(alone: Cli) -> None:
    ran = await alone("--help")
    assert ran.code == 0
    assert "3  Temporal, the database, NetBox, a device controller or a server of the stack is not available" in ran.out
    heavy = "{'temporalio', 'sqlalchemy', 'pydantic', 'asyncpg', 'alembic', 'pynetbox'}"
    check = f"import sys, lastmile.cli.app; sys.exit(' '.join({heavy} & sys.modules.keys()) or 0)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", check)
    assert await process.wait() == 0
