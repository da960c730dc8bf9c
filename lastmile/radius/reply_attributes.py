"""The RADIUS reply attribute of each purpose of a prefix. The audit's SQL says it as `lastmile_reply_attribute`."""

from collections.abc import Mapping

from lastmile.contract.addressing import Purpose

__all__ = ["REPLY_ATTRIBUTES"]

REPLY_ATTRIBUTES: Mapping[Purpose, str] = {
    Purpose.IPV6_PD: "Delegated-IPv6-Prefix",
    Purpose.IPV6_FRAMED: "Framed-IPv6-Prefix",
    Purpose.IPV6_ADDRESS: "Framed-IPv6-Address",
    Purpose.IPV4: "Framed-IP-Address",
}
