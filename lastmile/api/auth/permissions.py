"""The permissions of the REST API. Each route requires one; an API key or a token grants some of them."""

from enum import StrEnum
from typing import Self

__all__ = ["Permission"]


class Permission(StrEnum):
    """What a caller may do. `sentence` describes it for people."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    ORDERS_READ = "orders:read", "List orders, and read their steps, results and events."
    ORDERS_WRITE = "orders:write", "Send orders, change scheduled orders, and cancel orders."
    OPS_STEER = "ops:steer", "List parked orders, and decide to retry, skip or abandon."
    SUBSCRIBERS_READ = "subscribers:read", "Read subscribers and their lines, without personal data."
    SUBSCRIBERS_PERSONAL = "subscribers:personal", "Read, change and erase names, e-mail addresses and phone numbers."
    IPAM_READ = "ipam:read", "Read pools, networks, delegations, capacity and statistics."
    IPAM_ALLOCATE = "ipam:allocate", "Reserve prefixes, and convert and cancel reservations."
    IPAM_MANAGE = "ipam:manage", "Add, change and remove pools, networks, thresholds and tags."
    NOTIFY_MANAGE = "notify:manage", "Manage notification rules, and read the names of channels."
    WEBHOOKS_MANAGE = "webhooks:manage", "Manage webhooks, rotate their secrets, and read their deliveries."
    SHARES_CREATE = "shares:create", "Create and revoke public pages."
    AUDIT_READ = "audit:read", "Read the audit log and findings, and who held an address at a past time."
    ACS_READ = "acs:read", "Read the settings of a CPE, with the password of its line. For an ACS."
    ADMIN_TENANTS = "admin:tenants", "Change the quotas of tenants."
