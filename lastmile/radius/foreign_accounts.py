"""Accounts of a FreeRADIUS database that another system has filled, read as what a line of Lastmile would have.

What Lastmile cannot carry is a remark, or a reason to leave the account out. Operators are those of unlang's check and
reply items; systems such as daloRADIUS mix them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network

from lastmile.contract.addressing import Purpose
from lastmile.errors import LastmileError
from lastmile.radius.reply_attributes import REPLY_ATTRIBUTES

__all__ = ["ForeignAccount", "Item", "UnfitAccountError", "read_account", "read_rates"]


@dataclass(frozen=True, slots=True)
class Item:
    """A check item or a reply item."""

    attribute: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class ForeignAccount:
    """What an account gives its line."""

    group: str
    """The group of the plan; empty: the account has rates of its own."""
    rates: tuple[int, int]
    """Download and upload in kbit/s."""
    password: str | None
    """None: the login needs no password."""
    ipv6: tuple[Purpose, IPv6Network] | None
    ipv4: IPv4Address | None
    remarks: tuple[str, ...] = ()
    """What the line would not have any more, or would have in another way."""


class UnfitAccountError(LastmileError):
    """No order of Lastmile has what the account has; the message says what."""


_PASSWORDS = ("Cleartext-Password", "User-Password")
_HASHES = re.compile(r"(Crypt|MD5|SMD5|SHA\d?|SSHA\d*|NT|LM)-Password|Password-With-Header")
_OF_A_PURPOSE = {attribute: purpose for purpose, attribute in REPLY_ATTRIBUTES.items()}
_BY_THE_NAS = {IPv4Address("255.255.255.254"), IPv4Address("255.255.255.255")}
"""Framed-IP-Address by which the NAS or the user chooses (RFC 2865 section 5.8)."""
_RATES = {  # in units of bit/s and kbit/s: download, upload
    ("WISPr-Bandwidth-Max-Down", "WISPr-Bandwidth-Max-Up"): 1000,
    ("ChilliSpot-Bandwidth-Max-Down", "ChilliSpot-Bandwidth-Max-Up"): 1,
}
_RATE_ATTRIBUTES = {"Mikrotik-Rate-Limit", *(name for pair in _RATES for name in pair)}
_MIKROTIK = re.compile(r"(\d+)([kMG]?)/(\d+)([kMG]?)(?:\s.*)?")
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}


def read_rates(items: Iterable[Item]) -> tuple[int, int] | None:
    """Return the download and the upload rate of reply items in kbit/s; None without both."""
    values = {item.attribute: item.value.strip() for item in items}
    for (down, up), unit in _RATES.items():
        if values.get(down, "").isdigit() and values.get(up, "").isdigit():
            return int(values[down]) // unit, int(values[up]) // unit
    if found := _MIKROTIK.fullmatch(values.get("Mikrotik-Rate-Limit", "")):  # rx/tx of the router: upload/download
        upload, download = (int(found[n]) * _UNITS[found[n + 1]] // 1000 for n in (1, 3))
        return download, upload
    return None


def read_account(
    checks: Sequence[Item],
    replies: Sequence[Item],
    groups: Sequence[tuple[int, str]],
    rates_of: Mapping[str, tuple[int, int]],
) -> ForeignAccount:
    """Return what the account gives its line. `groups` are its groups by priority, `rates_of` the rates of groups.

    Raises `UnfitAccountError`.
    """
    remarks: list[str] = []
    password = _password(checks, remarks)
    ipv6, ipv4 = _addresses(replies, remarks)
    own = read_rates(replies)
    ranked = [name for _, name in sorted(groups)]
    known = [name for name in ranked if name in rates_of]
    if own is None and not known:
        named = f"its groups ({', '.join(ranked)}) have no rates" if ranked else "it is in no group"
        raise UnfitAccountError(f"it has no rates, and {named}")
    group = known[0] if known else ""
    if others := [name for name in ranked if name != group]:
        remarks.append(f"is also in group {', '.join(others)}, and a line has one plan")
    return ForeignAccount(group, own or rates_of[group], password, ipv6, ipv4, tuple(remarks))


def _password(checks: Sequence[Item], remarks: list[str]) -> str | None:
    """Return the password, and remark on every other check item."""
    given = [item for item in checks if item.attribute in _PASSWORDS]
    if hashed := sorted({item.attribute for item in checks if _HASHES.fullmatch(item.attribute)}):
        raise UnfitAccountError(f"its password is stored as {', '.join(hashed)}, and only the subscriber knows it")
    if len({item.value for item in given}) > 1:
        raise UnfitAccountError("it has several passwords")
    types = {item.value for item in checks if item.attribute == "Auth-Type"}
    if "Reject" in types:
        raise UnfitAccountError("its logins are refused (Auth-Type Reject)")
    if not given and types != {"Accept"}:
        raise UnfitAccountError("it has no password, and no Auth-Type Accept")
    for item in checks:
        if item.attribute in _PASSWORDS:
            if item.attribute == "User-Password":
                remarks.append("User-Password becomes Cleartext-Password")
            if item.op != ":=":
                remarks.append(f"the operator {item.op} of {item.attribute} becomes :=")
        elif item.attribute != "Auth-Type":
            remarks.append(f"the check item {item.attribute} {item.op} {item.value} is lost")
        elif given:
            remarks.append(f"Auth-Type {item.op} {item.value} is lost: the password decides")
    return given[0].value if given else None


def _addresses(
    replies: Sequence[Item], remarks: list[str]
) -> tuple[tuple[Purpose, IPv6Network] | None, IPv4Address | None]:
    """Return the prefix and the address, and remark on every other reply item but rates."""
    ipv6: list[tuple[Purpose, IPv6Network]] = []
    ipv4: list[IPv4Address] = []
    for item in replies:
        purpose = _OF_A_PURPOSE.get(item.attribute)
        try:
            if purpose is Purpose.IPV4:
                ipv4.append(IPv4Address(item.value.strip()))
            elif purpose is not None:
                ipv6.append((purpose, IPv6Network(item.value.strip())))
            elif item.attribute not in _RATE_ATTRIBUTES:
                remarks.append(f"the reply item {item.attribute} {item.op} {item.value} is lost")
        except ValueError:
            raise UnfitAccountError(f"{item.attribute} {item.value} is no address") from None
    ipv4 = [address for address in ipv4 if address not in _BY_THE_NAS]
    if len(ipv4) > 1 or len(ipv6) > 1:
        raise UnfitAccountError("it has several addresses of one family, and a line has one of each")
    return (ipv6[0] if ipv6 else None), (ipv4[0] if ipv4 else None)
