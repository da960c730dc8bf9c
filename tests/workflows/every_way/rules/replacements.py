"""The rules of the operations that replace addresses."""

from tests.workflows.every_way.rules.rule import LINE, VERIFY, Flow, Rule, Undo

__all__ = ["CHANGE_ADDRESSING", "RENUMBER"]

RENUMBER = Flow(
    LINE,
    (
        Rule(VERIFY),
        Rule(
            "begin_replacement",
            "replaced prefix active, replaced slot",
            goes="prefix active, slot",
            undo=Undo("cancel_replacement", comes="prefix active, slot", spares_if="prefix allocated"),
        ),
        Rule(
            "allocate_replacement",
            "prefix allocated, slot",
            undo=Undo("release_ip_address", goes="prefix allocated, prefix revoked, slot"),
        ),
        Rule("switch_addresses", "prefix active", goes="prefix allocated"),
        Rule(
            "revoke_replaced_addresses",
            "replaced prefix revoked",
            goes="replaced prefix active",
            idle_on="prefix allocated",
        ),
        Rule(
            "release_replaced_addresses",
            goes="replaced prefix revoked, replaced slot",
            stuck_on="replaced prefix active",
            idle_on="prefix allocated",
        ),
    ),
    pivot="switch_addresses",
    after=("provision",),
)

CHANGE_ADDRESSING = Flow(
    LINE,
    (
        Rule(VERIFY),
        Rule(
            "begin_replacement",
            "replaced prefix active, replaced slot",
            goes="prefix active, slot",
            undo=Undo("cancel_replacement", comes="prefix active, slot"),
        ),
        Rule("allocate_ip_address", undo=Undo("release_ip_address"), says="skipped"),
        Rule("switch_addresses", goes="reply item"),
        Rule(
            "revoke_replaced_addresses",
            "replaced prefix revoked",
            goes="replaced prefix active",
            idle_on="reply item",
        ),
        Rule(
            "release_replaced_addresses",
            goes="replaced prefix revoked, replaced slot",
            stuck_on="replaced prefix active",
            idle_on="reply item",
        ),
    ),
    pivot="switch_addresses",
    after=("provision",),
)
