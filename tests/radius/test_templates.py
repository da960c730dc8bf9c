"""Tests of attribute templates: their values, their mistakes, and the attributes of a CoA-Request."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastmile.contract.lines import MAX_KBPS
from lastmile.contract.suspension import SuspensionMode
from lastmile.radius.attributes import InvalidAttributeError
from lastmile.radius.catalogue import Catalogue, Choice
from lastmile.radius.groups import Group
from lastmile.radius.templates import READY_TEMPLATES, Item, Template, find_problems

HOME = Group("acme", "home", 500_000, 100_000)
BIG = replace(HOME, plan="big", download_kbps=1_000_000)
SLOW, WALLED, BLOCKED = (
    replace(HOME, suspended=mode) for mode in (SuspensionMode.SLOW, SuspensionMode.WALLED_GARDEN, SuspensionMode.BLOCK)
)


def one_template(*items: str, otherwise: str | None = None) -> Template:
    return Template(summary="A test", in_service=items, otherwise=otherwise)


@pytest.mark.parametrize(
    ("down", "up", "expected"),
    [
        (500_000, 100_000, [("WISPr-Bandwidth-Max-Down", "500000000"), ("WISPr-Bandwidth-Max-Up", "100000000")]),
        (4_294_967, 1, [("WISPr-Bandwidth-Max-Down", "4294967000"), ("WISPr-Bandwidth-Max-Up", "1000")]),
        (4_294_968, 1, [("ChilliSpot-Bandwidth-Max-Down", "4294968"), ("ChilliSpot-Bandwidth-Max-Up", "1")]),
        (
            10_000_000,
            10_000_000,
            [("ChilliSpot-Bandwidth-Max-Down", "10000000"), ("ChilliSpot-Bandwidth-Max-Up", "10000000")],
        ),
        (1, 5_000_000, [("ChilliSpot-Bandwidth-Max-Down", "1"), ("ChilliSpot-Bandwidth-Max-Up", "5000000")]),
    ],
)
def test_reply_items_of_any_rate_fit_into_32_bits(down: int, up: int, expected: list[tuple[str, str]]) -> None:
    items = Catalogue().reply_items(Group("acme", "home", down, up))
    assert items == [Item(name, ":=", value) for name, value in expected]
    assert all(int(item.value) < 2**32 for item in items)


@pytest.mark.parametrize("name", READY_TEMPLATES)
@given(
    down=st.integers(1, MAX_KBPS), up=st.integers(1, MAX_KBPS), plan=st.from_regex(r"[A-Za-z0-9_-]{64}", fullmatch=True)
)
def test_ready_template_takes_every_plan(name: str, down: int, up: int, plan: str) -> None:
    group = Group("acme", plan, down, up)
    catalogue = Catalogue(choices={"acme": Choice((name,))})
    for state in (None, SuspensionMode.SLOW, SuspensionMode.WALLED_GARDEN):
        assert catalogue.reply_items(replace(group, suspended=state))
    assert find_problems(READY_TEMPLATES[name]) == []


@given(
    plan=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True),
    mode=st.sampled_from([None, *SuspensionMode]),
    down=st.integers(1, MAX_KBPS),
)
def test_group_is_read_back_from_its_name(plan: str, mode: SuspensionMode | None, down: int) -> None:
    group = Group("acme-2", plan, down, 7, mode)
    assert Group.parse(group.name) == group


@pytest.mark.parametrize("name", ["home@acme.lastmile", "home-1-1", "home-1-1:fast@acme.lastmile", "fast"])
def test_group_of_an_operator_is_not_a_plan(name: str) -> None:
    assert Group.parse(name) is None


def test_slow_line_and_walled_garden_get_the_slow_rates_of_the_tenant() -> None:
    choice = Choice(("accel-ppp",), slow_download_kbps=256, slow_upload_kbps=64)
    catalogue = Catalogue(choices={"acme": choice})
    assert catalogue.reply_items(SLOW) == [Item("Filter-Id", ":=", "256/64")]
    assert catalogue.reply_items(WALLED) == [
        Item("Filter-Id", ":=", "256/64"),
        Item("Framed-Pool", ":=", "walled-garden"),
    ]


def test_blocked_account_gets_no_reply_item() -> None:
    catalogue = Catalogue()
    assert (catalogue.reply_items(BLOCKED), catalogue.check_items(HOME)) == ([], [])
    assert catalogue.check_items(BLOCKED) == [Item("Auth-Type", ":=", "Reject")]


def test_tenant_with_two_templates_gets_the_items_of_both() -> None:
    catalogue = Catalogue(choices={"acme": Choice(("mikrotik", "cisco"))})
    assert [item.attribute for item in catalogue.reply_items(HOME)] == [
        *("Mikrotik-Rate-Limit", "Cisco-AVPair", "Cisco-AVPair")
    ]
    other = replace(HOME, tenant="other")
    assert catalogue.reply_items(other) == Catalogue().reply_items(other)


@pytest.mark.parametrize(
    ("nas_type", "before", "after", "expected"),
    [
        ("mikrotik", HOME, BIG, [("Mikrotik-Rate-Limit", "100000k/1000000k")]),
        ("mikrotik", HOME, SLOW, [("Mikrotik-Rate-Limit", "1000k/1000k")]),
        ("mikrotik", HOME, WALLED, None),
        ("mikrotik", WALLED, HOME, None),
        ("nokia", HOME, WALLED, [("Alc-SLA-Prof-Str", "walled-garden")]),
        ("nokia", BLOCKED, HOME, None),
        ("nokia", HOME, BLOCKED, None),
        ("other", HOME, BIG, None),
        ("livingston", HOME, BIG, None),
    ],
)
def test_coa_is_what_the_type_of_the_nas_understands(
    nas_type: str, before: Group, after: Group, expected: list[tuple[str, str]] | None
) -> None:
    # The NAS decides, and not the templates that the tenant chose.
    assert Catalogue().coa_attributes(nas_type, before, after) == expected


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("Wispr-Bandwidth-Max-Down := 1", "No attribute Wispr-Bandwidth-Max-Down is in Lastmile's dictionary"),
        ("Filter-Id := {speed}", "{speed} is not a placeholder. Placeholders: {plan}, {group}"),
        ("Filter-Id := {plan", "A brace has no counterpart"),
        ("Filter-Id == gold", "Write ATTRIBUTE OPERATOR VALUE"),
        ("Filter-Id :=", "Write ATTRIBUTE OPERATOR VALUE"),
        ("WISPr-Bandwidth-Max-Up := {plan}", "takes a whole number from 0 to 4294967295, and 'p' does not fit"),
        ("Filter-Id := " + "x" * 248, "takes text of at most 247 octets"),
        ("Delegated-IPv6-Prefix := 2001:db8::/56", "Lastmile writes the addresses of a line itself"),
        ("User-Name := line", "identifies a session"),
    ],
)
def test_find_problems_names_the_item_and_the_mistake(item: str, reason: str) -> None:
    (problem,) = find_problems(one_template("Class := fine", item))
    assert problem.startswith(f"in_service: {item}: ")
    assert reason in problem


def test_rate_that_fits_into_no_attribute_is_refused_with_the_plan() -> None:
    templates = {"bits": one_template("WISPr-Bandwidth-Max-Up := {upload_bps}")}
    catalogue = Catalogue(templates, {"acme": Choice(("bits",))})
    with pytest.raises(InvalidAttributeError, match=r"Template bits, in_service, plan home-1-5000000: .* does not fit"):
        catalogue.reply_items(Group("acme", "home", 1, 5_000_000))
