"""The RADIUS reply attribute of each purpose of a prefix: read from here by the steps, the audit and the importer."""

from collections.abc import Mapping

from lastmile.contract.addressing import Purpose

__all__ = ["ATTRIBUTE_OF_PURPOSE", "REPLY_ATTRIBUTES"]

REPLY_ATTRIBUTES: Mapping[Purpose, str] = {
    Purpose.IPV6_PD: "Delegated-IPv6-Prefix",
    Purpose.IPV6_FRAMED: "Framed-IPv6-Prefix",
    Purpose.IPV6_ADDRESS: "Framed-IPv6-Address",
    Purpose.IPV4: "Framed-IP-Address",
}

ATTRIBUTE_OF_PURPOSE = " ".join(
    ["CASE d.purpose", *(f"WHEN '{purpose}' THEN '{name}'" for purpose, name in REPLY_ATTRIBUTES.items()), "END"]
)
"""The attribute of a delegation `d`, as a SQL expression."""
