"""`lastmile replace-device` with every field of an ONU and a CPE, and what `lastmile status` then shows."""

import pytest

from tests.support.commands import Book, Cli, lines

pytestmark = pytest.mark.usefixtures("database", "worker")

FIELDS = {
    "onu_serial": "ACME000000FF",
    "onu_type": "F 660",
    "speed_profile": "500M",
    "cpe_mac": "00:1a:2b:00:00:ff",
    "cpe_oui": "00D09E",
    "cpe_product_class": "HGW-1",
    "cpe_serial": "CPE000001",
    "duid": "00:03:00:01:1a",
}


async def test_replace_device_takes_every_field_of_a_device(cli: Cli, book: Book) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    options = [word for name, value in FIELDS.items() for word in (f"--{name.replace('_', '-')}", value)]

    ran = await cli("replace-device", book.ref(), "--tenant", "acme", *options, "--json")

    assert (ran.code, ran.json[0]["status"]) == (0, "completed")
    (status,) = (await cli("status", book.ref(), "--tenant", "acme", "--json")).json
    assert {name: status["line"][name] for name in FIELDS} == FIELDS
    shown = (await cli("status", book.ref(), "--tenant", "acme")).out
    assert "onu_type F 660, speed_profile 500M" in " ".join(shown.split())


async def test_replace_device_with_a_mistake_names_the_option(cli: Cli, book: Book) -> None:
    asked = ("replace-device", book.ref(), "--tenant", "acme")
    ran = await cli(*asked, "--cpe-oui", "00D0", "--duid", "3", "--onu-type", " F660")
    assert ran.code == 2
    assert "--cpe-oui: must be an OUI of six hexadecimal digits" in ran.err
    assert "--duid: must be a DUID of 3 to 130 octets" in ran.err
    assert "--onu-type: must be 1 to 64 characters of printable ASCII" in ran.err
    ran = await cli(*asked, "--cpe-product-class", "HGW-1")
    assert (ran.code, "cpe_product_class needs cpe_oui and cpe_serial" in ran.err) == (2, True)
