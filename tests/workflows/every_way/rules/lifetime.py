"""The rules of the operations that begin and end a line."""

from tests.workflows.every_way.rules.rule import LINE, NOTHING, Flow, Rule, Undo

__all__ = ["DEPROVISION", "PROVISION"]

PROVISION = Flow(
    NOTHING,
    (
        Rule("create_customer", "customer", undo=Undo("delete_customer", spares_if="subscriber")),
        Rule(
            "create_subscriber",
            "subscriber",
            undo=Undo("delete_subscriber", stuck_on="network profile, billing active"),
        ),
        Rule("create_network_profile", "network profile", undo=Undo("delete_network_profile")),
        Rule(
            "create_radius_account",
            "account, group",
            undo=Undo("delete_radius_account", goes="account, group, account blocked, reply item"),
        ),
        Rule(
            "allocate_ip_address",
            "prefix allocated, slot",
            undo=Undo("release_ip_address", goes="prefix allocated, prefix revoked, slot", stuck_on="prefix active"),
        ),
        Rule(
            "activate_ipv6_lifecycle",
            "prefix active, reply item",
            goes="prefix allocated",
            undo=Undo("revoke_ipv6_lifecycle", comes="prefix revoked, account blocked"),
            best_effort=True,
        ),
        Rule("activate_onu", "onu in service", undo=Undo("deactivate_onu"), says="skipped"),
        Rule("configure_cpe", "cpe in service", undo=Undo("unconfigure_cpe"), says="skipped"),
        Rule("create_billing_service", "billing active", undo=Undo("delete_billing_service")),
    ),
)

DEPROVISION = Flow(
    LINE,
    (
        Rule("verify_subscriber"),
        Rule(
            "suspend_billing_service",
            "billing suspended",
            goes="billing active",
            undo=Undo("resume_billing_service", comes="billing active"),
        ),
        Rule(
            "deactivate_onu",
            "onu out of service",
            goes="onu in service",
            undo=Undo("activate_onu", comes="onu in service"),
            says="skipped",
        ),
        Rule(
            "unconfigure_cpe",
            "cpe out of service",
            goes="cpe in service",
            undo=Undo("configure_cpe", comes="cpe in service"),
            says="skipped",
        ),
        Rule("revoke_ipv6_lifecycle", "prefix revoked, account blocked", goes="prefix active, reply item"),
        Rule("release_ip_address", goes="prefix revoked, slot", stuck_on="prefix active"),
        Rule("delete_radius_account", goes="account, group, account blocked, reply item"),
        Rule("delete_network_profile", goes="network profile"),
        Rule(
            "archive_subscriber",
            "subscriber archived, billing ended",
            goes="subscriber, billing active, billing suspended, suspended: walled_garden",
        ),
    ),
    pivot="revoke_ipv6_lifecycle",
    after=("provision",),
)
