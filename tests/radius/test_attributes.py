"""Tests of the RADIUS dictionary, compared with FreeRADIUS's."""

from collections.abc import Iterator

import pytest

from lastmile.devstack.freeradius import find_freeradius
from lastmile.radius.attributes import DICTIONARY

# Opaque attributes that operators write as text (see radius/dictionary).
READ_AS_TEXT = {"Class", "Chargeable-User-Identity", "ADSL-Agent-Circuit-Id", "ADSL-Agent-Remote-Id"}


def definitions() -> Iterator[list[str]]:
    """Return the lines of FreeRADIUS's own dictionaries, split into words."""
    share = find_freeradius().parents[1] / "share" / "freeradius"
    vendors = ("wispr", "chillispot", "mikrotik", "erx", "cisco", "alcatel.sr", "huawei")
    for file in [*sorted(share.glob("dictionary.rfc*")), *(share / f"dictionary.{vendor}" for vendor in vendors)]:
        for line in file.read_text().splitlines():
            yield line.partition("#")[0].split()


@pytest.mark.freeradius_required
def test_dictionary_agrees_with_freeradius() -> None:
    words = list(definitions())
    codes = {word[1]: (int(word[2]), word[3]) for word in words if word[:1] == ["ATTRIBUTE"] and word[2].isdigit()}
    values = {(word[1], word[2]): int(word[3], 0) for word in words if word[:1] == ["VALUE"]}
    for name, attribute in DICTIONARY.attributes.items():
        expected = (codes[name][0], "string") if name in READ_AS_TEXT else codes[name]
        assert (name, (attribute.code, attribute.type)) == (name, expected)
        for value, encoded in attribute.values.forward.items():
            assert (name, value, int.from_bytes(encoded, "big")) == (name, value, values[name, value])


def test_add_with_an_option_82_id_keeps_every_byte() -> None:
    attribute = DICTIONARY["ADSL-Agent-Circuit-Id"]
    assert (attribute.vendor, DICTIONARY.vendors.GetForward(attribute.vendor)) == ("ADSL-Forum", 3561)
