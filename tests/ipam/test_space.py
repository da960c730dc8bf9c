"""Space that is not for subscribers: which pool can be made of a prefix, and with which option."""

from ipaddress import ip_network

import pytest

from ipam.space import unusable


@pytest.mark.parametrize(
    "prefix",
    ["2a00:1450::/32", "2001:4860::/32", "fd00:1::/48", "10.0.0.0/8", "100.64.0.0/10", "84.1.0.0/16", "192.168.0.0/16"],
)
def test_space_for_subscribers_needs_no_force(prefix: str) -> None:
    assert unusable(ip_network(prefix), force=False, demonstration=False) == ""


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("ff00::/8", "multicast"),
        ("ff3e::/32", "multicast"),
        ("fe80::/10", "link-local"),
        ("fe80:1::/48", "link-local"),
        ("::/56", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "translation"),
        ("224.0.0.0/4", "multicast"),
        ("239.1.0.0/16", "multicast"),
        ("169.254.0.0/16", "link-local"),
        ("127.0.0.0/24", "loopback"),
        ("0.0.0.0/24", "unspecified"),
        ("0.0.0.0/0", "contains, 0.0.0.0/8"),
        ("::/0", "multicast"),
    ],
)
def test_space_that_no_router_serves_is_refused_with_force_too(prefix: str, words: str) -> None:
    said = unusable(ip_network(prefix), force=True, demonstration=True)
    assert words in said
    assert said.endswith("Choose a prefix of your own.")


@pytest.mark.parametrize(
    "prefix", ["2001:db8::/32", "2001:db8:1::/48", "3fff::/20", "192.0.2.0/24", "198.51.100.0/28", "203.0.113.0/24"]
)
def test_documentation_space_is_for_laboratories_and_the_demonstration(prefix: str) -> None:
    assert "documentation" in unusable(ip_network(prefix), force=False, demonstration=False)
    assert "add --force in a laboratory" in unusable(ip_network(prefix), force=False, demonstration=False)
    assert unusable(ip_network(prefix), force=True, demonstration=False) == ""
    assert unusable(ip_network(prefix), force=False, demonstration=True) == ""


@pytest.mark.parametrize("prefix", ["2002::/16", "198.18.0.0/15", "240.0.0.0/8", "4000::/16", "2001:2::/48"])
def test_reserved_space_is_for_laboratories_only(prefix: str) -> None:
    assert unusable(ip_network(prefix), force=False, demonstration=True)
    assert unusable(ip_network(prefix), force=True, demonstration=False) == ""
