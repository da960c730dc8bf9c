"""Validation of orders reports every mistake at once, with the path of each field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from temporalio.api.common.v1 import Payload

from lastmile.contract import Cleanup, DeprovisionSubscriber, Operation, ProvisionSubscriber, ReplaceDevice, workflow_id
from lastmile.contract.lines import Line, Reference, TenantId
from lastmile.encryption.codec import data_converter
from lastmile.fields.devices import Duid, MacAddress, Oui

ORDER: dict[str, Any] = {
    "tenant": "acme",
    "order_id": "O-1",
    "subscriber_ref": "S-1001",
    "customer": {"ref": "C-1", "name": "Ada Example"},
    "plan": {"name": "fiber-500", "download_kbps": 500_000, "upload_kbps": 250_000},
    "line": {"connection_type": "ftth", "onu_serial": "ACME00000001", "cpe_mac": "00:1a:2b:3c:4d:5e"},
}


def problems(order: dict[str, Any]) -> set[str]:
    """The paths of everything that is wrong with it."""
    with pytest.raises(ValidationError) as failure:
        ProvisionSubscriber.model_validate(order)
    return {".".join(map(str, error["loc"])) for error in failure.value.errors()}


def with_line(**changes: Any) -> dict[str, Any]:
    return ORDER | {"line": ORDER["line"] | changes}


def test_five_mistakes_are_named_at_once() -> None:
    order = with_line(s_vlan=4095, cpe_mac="00:1a:2b:3c:4d", option82_policy="maybe") | {
        "subscriber_ref": "S/1001",
        "addressing": {"ipv6_pd_size": 65},
    }
    assert problems(order) == {
        "subscriber_ref",
        "line.s_vlan",
        "line.cpe_mac",
        "line.option82_policy",
        "addressing.ipv6_pd_size",
    }


def test_validation_error_omits_personal_data() -> None:
    """Complaints end up in logs and tickets."""
    order = ORDER | {"customer": {"ref": "C-1", "name": "Ada Example", "email": "ada at example.net"}}
    with pytest.raises(ValidationError) as failure:
        ProvisionSubscriber.model_validate(order)
    assert "ada" not in str(failure.value).lower()


def test_unknown_field_is_refused() -> None:
    assert problems(with_line(vlan=100) | {"priority": 1}) == {"line.vlan", "priority"}


@pytest.mark.parametrize(
    "written", ["00:1a:2b:3c:4d:5e", "00-1A-2B-3C-4D-5E", "001A.2B3C.4D5E", "001a2b3c4d5e", "00:1A:2b:3C:4d:5E"]
)
def test_mac_addresses_have_one_spelling(written: str) -> None:
    assert TypeAdapter(MacAddress).validate_python(written) == "00:1a:2b:3c:4d:5e"


@pytest.mark.parametrize(
    "written",
    ["485754431A2B3C4D", "48575443-1a2b3c4d", "HWTC1A2B3C4D", "hwtc1a2b3c4d", "HWTC-1A2B3C4D", "HWTC:1A2B3C4D"],
)
def test_onu_serials_have_one_form(written: str) -> None:
    assert Line(connection_type="ftth", onu_serial=written).onu_serial == "HWTC1A2B3C4D"


@pytest.mark.parametrize(
    "written",
    ["", "HWTC1A2B3C4", "HWTC1A2B3C4D5", "FFFFFFFF1A2B3C4D", "4.85754E+15", "HWTC 1A2B3C4D", "HWTC--1A2B3C4D"],
)
def test_onu_serial_of_another_form_is_refused(written: str) -> None:
    assert problems(with_line(onu_serial=written)) == {"line.onu_serial"}


def load(order: dict[str, Any]) -> ProvisionSubscriber:
    """As a worker loads the payload that an older version, or another SDK, gave to Temporal."""
    payload = Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(order).encode())
    loaded: ProvisionSubscriber = data_converter(None).payload_converter.from_payload(payload, ProvisionSubscriber)
    return loaded


def test_payload_of_an_older_version_is_loaded_with_its_text_escaped() -> None:
    older = ORDER | {"requested_by": "a\x1b[2J\0", "not_before": "1970-01-01T13:03:20Z"}
    loaded = load(older | {"customer": {"ref": "C-1", "name": "\u202eada"}})
    assert (loaded.requested_by, loaded.customer.name) == ("a\\x1b[2J\\x00", "\\u202eada")


@pytest.mark.parametrize("field", ["circuit_id", "remote_id"])
@pytest.mark.parametrize("text", [" olt-1", "olt-1 ", "olt-1\u00a0", "\u3000", " "])
def test_option_82_with_blanks_around_it_is_refused(field: str, text: str) -> None:
    """CSV would carry another id: blanks around a cell are not part of its value."""
    assert problems(with_line(**{field: text})) == {f"line.{field}"}
    assert getattr(load(with_line(**{field: text})).line, field) == text  # of an older version


def test_payload_with_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be a whole number"):
        load(ORDER | {"plan": ORDER["plan"] | {"download_kbps": True}})


def test_payload_of_an_order_is_the_order() -> None:
    order = ProvisionSubscriber.model_validate(ORDER | {"not_before": "2028-09-01T08:00:00.5+02:00"})
    converter = data_converter(None).payload_converter
    assert converter.from_payload(converter.to_payload(order), ProvisionSubscriber) == order


@pytest.mark.parametrize("value", [True, "1", float("inf"), float("nan"), 1e300, -1])
def test_limits_of_a_cleanup_are_finite_numbers(value: Any) -> None:
    with pytest.raises(ValidationError):
        Cleanup(revoked_days=value)


@pytest.mark.parametrize(
    "written",
    ["00:1a:2b:3c:4d:5:e", "00:1a-2b:3c:4d:5e", "0:1a:2b:10:1:1", "001a2b:3c4d:5e", "00 1a 2b 3c 4d 5e", "1.02030E+11"],
)
def test_mac_address_of_other_groups_is_refused(written: str) -> None:
    assert problems(with_line(cpe_mac=written)) == {"line.cpe_mac"}


@pytest.mark.parametrize(
    "written", ["", "00:1a:2b:3c:4d", "00:1a:2b:3c:4d:5g", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "000000000000"]
)
def test_mac_address_that_is_not_unicast_is_refused(written: str) -> None:
    assert problems(with_line(cpe_mac=written)) == {"line.cpe_mac"}


@given(st.binary(min_size=6, max_size=6))
def test_unicast_mac_address_is_accepted_in_every_notation(raw: bytes) -> None:
    mac = bytes([raw[0] & 0xFE]) + raw[1:5] + bytes([raw[5] | 1])
    validate = TypeAdapter(MacAddress).validate_python
    assert validate(mac.hex()) == validate(mac.hex("-").upper()) == validate(mac.hex(".", 2)) == mac.hex(":")


@pytest.mark.parametrize("written", ["00D09E", "00d09e", "00-D0-9E", "00:d0:9e"])
def test_ouis_have_one_form(written: str) -> None:
    assert TypeAdapter(Oui).validate_python(written) == "00D09E"


@pytest.mark.parametrize("written", ["", "D09E", "00D09", "00D09EF", "00-D0:9E", "00 D0 9E", "00D09G", "0.00E+00", 5])
def test_oui_of_another_form_is_refused(written: Any) -> None:
    assert problems(with_line(cpe_oui=written, cpe_serial="1")) == {"line.cpe_oui"}


@given(st.binary(min_size=3, max_size=130))
def test_duid_is_accepted_in_every_notation(raw: bytes) -> None:
    validate = TypeAdapter(Duid).validate_python
    assert validate(raw.hex()) == validate(raw.hex("-").upper()) == validate(raw.hex(":")) == raw.hex(":")


@pytest.mark.parametrize(
    "written",
    [
        "",
        "0003",
        "00:03",
        "000300010",
        "00:03:0:1:00",
        "00:03-00:01",
        "0x00030001",
        "00 03 00 01",
        "3.0001E+19",
        "zz0300",
    ],
)
def test_duid_of_another_form_is_refused(written: str) -> None:
    assert problems(with_line(duid=written)) == {"line.duid"}


@given(st.binary(min_size=131, max_size=200))
def test_duid_of_more_than_130_octets_is_refused(raw: bytes) -> None:
    assert problems(with_line(duid=raw.hex())) == {"line.duid"}


@pytest.mark.parametrize("field", ["onu_type", "speed_profile", "cpe_product_class", "cpe_serial"])
@pytest.mark.parametrize("text", ["", " ", " HGW", "HGW ", "a\tb", "a\n", "Ä", "x" * 65, "1.23457E+14", "1E+11", 1])
def test_text_that_no_device_has_is_refused(field: str, text: Any) -> None:
    cpe = {"cpe_oui": "00D09E", "cpe_product_class": "HGW-1", "cpe_serial": "CPE000001"}
    assert problems(with_line(**(cpe | {field: text}))) == {f"line.{field}"}


@pytest.mark.parametrize("field", ["onu_type", "speed_profile", "cpe_product_class", "cpe_serial"])
def test_text_of_a_device_can_have_blanks_inside(field: str) -> None:
    cpe = {"cpe_oui": "00D09E", "cpe_product_class": "HGW-1", "cpe_serial": "CPE000001"}
    line = ProvisionSubscriber.model_validate(with_line(**(cpe | {field: "F 660 (v2)"}))).line
    assert getattr(line, field) == "F 660 (v2)"


@pytest.mark.parametrize(
    ("cpe", "words"),
    [
        ({"cpe_oui": "00D09E"}, "cpe_oui needs cpe_serial"),
        ({"cpe_serial": "1"}, "cpe_serial needs cpe_oui"),
        ({"cpe_oui": "00D09E", "cpe_product_class": "HGW"}, "cpe_oui needs cpe_serial"),
        ({"cpe_product_class": "HGW"}, "cpe_product_class needs cpe_oui and cpe_serial"),
    ],
)
def test_cpe_that_tr069_does_not_identify_is_refused(cpe: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ProvisionSubscriber.model_validate(with_line(**cpe))
    with pytest.raises(ValidationError, match=words):
        ReplaceDevice.model_validate({"tenant": "acme", "order_id": "O-1", "subscriber_ref": "S-1"} | cpe)


def test_cpe_identity_is_the_mac_address_or_that_of_tr069() -> None:
    named = {"cpe_oui": "00d09e", "cpe_product_class": "HGW-1", "cpe_serial": "CPE000001"}
    both = ProvisionSubscriber.model_validate(with_line(**named)).line
    assert (both.cpe_identity, both.tr069_identity) == ("00:1a:2b:3c:4d:5e", "00D09E-HGW%2D1-CPE000001")
    without_mac = ProvisionSubscriber.model_validate(with_line(cpe_mac=None, **named)).line
    assert without_mac.cpe_identity == "00D09E-HGW%2D1-CPE000001"
    without_class = Line(connection_type="ftth", cpe_oui="00D09E", cpe_serial="a b_1%")
    assert without_class.cpe_identity == "00D09E-a%20b_1%25"
    assert Line(connection_type="ftth", duid="000300011a").cpe_identity is None


_device_texts = st.text(st.sampled_from("aB1-%_"), min_size=1, max_size=4)


@given(*[st.none() | _device_texts, _device_texts] * 2)
def test_different_cpes_have_different_identities(
    one_class: str | None, one_serial: str, other_class: str | None, other_serial: str
) -> None:
    one, other = (
        Line(connection_type="ftth", cpe_oui="00D09E", cpe_product_class=product_class, cpe_serial=serial)
        for product_class, serial in ((one_class, one_serial), (other_class, other_serial))
    )
    assert (one.cpe_identity == other.cpe_identity) is (one == other)


@given(st.integers())
def test_vlans_are_1_to_4094(vlan: int) -> None:
    order = with_line(s_vlan=vlan, c_vlan=vlan)
    if 1 <= vlan <= 4094:
        ProvisionSubscriber.model_validate(order)
    else:
        assert problems(order) == {"line.s_vlan", "line.c_vlan"}


@given(st.integers())
def test_delegated_prefixes_are_48_to_64(size: int) -> None:
    order = ORDER | {"addressing": {"ipv6_pd_size": size}}
    if 48 <= size <= 64:
        ProvisionSubscriber.model_validate(order)
    else:
        assert problems(order) == {"addressing.ipv6_pd_size"}


@pytest.mark.parametrize(
    "addressing",
    [
        {"ipv4_address": "198.51.100.2"},
        {"ipv4_mode": "dynamic", "ipv4_address": "198.51.100.2"},
        {"ipv6_mode": "dual_stack"},
    ],
)
def test_addressing_that_contradicts_itself_is_refused(addressing: dict[str, Any]) -> None:
    assert problems(ORDER | {"addressing": addressing}) == {"addressing"}


@pytest.mark.parametrize("mode", ["ipv4_mode", "ipv6_mode"])
def test_new_line_cannot_keep_addresses(mode: str) -> None:
    with pytest.raises(ValidationError, match="'unchanged' is only for change_addressing"):
        ProvisionSubscriber.model_validate(ORDER | {"addressing": {mode: "unchanged"}})


@pytest.mark.parametrize("address", ["198.51.100.2/24", "198.51.100.256", "2001:db8::1"])
def test_static_address_must_be_one_ipv4_address(address: str) -> None:
    addressing = {"ipv4_mode": "static", "ipv4_address": address}
    assert problems(ORDER | {"addressing": addressing}) == {"addressing.ipv4_address"}


@given(st.text())
def test_references_are_safe_in_workflow_ids_and_user_names(text: str) -> None:
    """Whatever is accepted has nothing that separates, escapes or ends anything."""
    try:
        reference = TypeAdapter(Reference).validate_python(text)
    except ValidationError:
        return
    assert reference.isascii()
    assert set(reference) - set(".-_") <= set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert ".." not in reference


@pytest.mark.parametrize("reference", ["", "a/b", "a@b", "a b", "a..b", ".a", "a.", "a\n", "é", "x" * 65, "-a"])
def test_unsafe_references_are_refused(reference: str) -> None:
    assert problems(ORDER | {"subscriber_ref": reference, "order_id": reference}) == {"subscriber_ref", "order_id"}


@pytest.mark.parametrize("tenant", ["", "Acme", "a.b", "-acme", "acme-", "x" * 33, "acme\n"])
def test_tenant_must_be_one_label_of_a_realm(tenant: str) -> None:
    assert problems(ORDER | {"tenant": tenant}) == {"tenant"}
    assert TypeAdapter(TenantId).validate_python("acme-2") == "acme-2"


def test_digest_is_independent_of_the_notation() -> None:
    order = ProvisionSubscriber.model_validate(ORDER)
    spelled_out = with_line(cpe_mac="00-1A-2B-3C-4D-5E", option82_policy="log") | {"addressing": {"ipv6_pd_size": 56}}
    again = ProvisionSubscriber.model_validate(dict(reversed(spelled_out.items())))
    assert again.digest == order.digest
    assert ProvisionSubscriber.model_validate_json(order.model_dump_json()).digest == order.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"order_id": "O-2"},
        {"subscriber_ref": "S-2"},
        {"addressing": {"enable_ipv6": False}},
        {"addressing": {"vrf": "red"}},
        {"customer": {"ref": "C-1", "name": "B"}},
    ],
)
def test_digest_differs_for_other_content(changes: dict[str, Any]) -> None:
    validate = ProvisionSubscriber.model_validate
    assert validate(ORDER | changes).digest != validate(ORDER).digest


def test_digest_of_a_known_order_is_constant() -> None:
    """It is kept for ever: where a change of the models changes it, old orders sent again are refused."""
    assert ProvisionSubscriber.model_validate(ORDER).digest == (
        "ddc65b166c54b7a0e37b1a36303bb5238cb89328df49d826d592266a669520e8"
    )


def test_every_operation_on_a_subscriber_has_one_workflow_id() -> None:
    provision = ProvisionSubscriber.model_validate(ORDER)
    deprovision = DeprovisionSubscriber(tenant="acme", order_id="O-2", subscriber_ref="S-1001", reason="moved")
    assert provision.workflow_id == deprovision.workflow_id == workflow_id("acme", "S-1001") == "subscriber/acme/S-1001"
    assert (provision.operation, deprovision.operation) == (Operation.PROVISION, Operation.DEPROVISION)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"identified_by": "mac"}, "identified_by needs access 'ipoe'"),
        ({"access": "ipoe"}, "access 'ipoe' needs identified_by"),
        ({"access": "ipoe", "identified_by": "mac", "username": "a"}, "or else the username"),
        ({"access": "ipoe", "identified_by": "mac", "cpe_mac": None}, "identified_by 'mac' needs cpe_mac"),
        (
            {"access": "ipoe", "identified_by": "circuit_and_remote_id", "circuit_id": "c"},
            "needs circuit_id and remote_id",
        ),
        ({"option82_policy": "enforce"}, "option82_policy 'enforce' needs circuit_id or remote_id"),
        ({"username": "S-2@acme.Lastmile"}, "must not end with .lastmile"),
        ({"username": " a"}, "without blanks"),
        (
            {"access": "ipoe", "identified_by": "circuit_id", "circuit_id": "S-2@acme.Lastmile"},
            "makes the user name S-2@acme.Lastmile. A user name must not end with .lastmile",
        ),
        (
            {
                "access": "ipoe",
                "identified_by": "circuit_and_remote_id",
                "circuit_id": "S-2@acme",
                "remote_id": "lastmile",
            },
            "makes the user name S-2@acme.lastmile",
        ),
    ],
)
def test_login_that_no_bng_can_send_is_refused(line: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ProvisionSubscriber.model_validate(with_line(**line))


def test_order_with_a_password_has_the_digest_of_the_order_that_is_sent() -> None:
    """A file of orders that is read again has the passwords, and the orders that have ended have references."""
    given = ProvisionSubscriber.model_validate(ORDER | {"password": "x"})
    assert given.digest == given.model_copy(update={"password": None, "password_ref": "O-1"}).digest
    assert given.digest != ProvisionSubscriber.model_validate(ORDER).digest


def test_line_without_a_way_to_log_in_has_the_digest_of_a_pppoe_line() -> None:
    """Orders from before the field have no access."""
    before, after = with_line(), with_line(access="pppoe", identified_by=None, username=None)
    assert ProvisionSubscriber.model_validate(before).digest == ProvisionSubscriber.model_validate(after).digest
