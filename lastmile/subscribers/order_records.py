"""The tables whose rows name the order that created or changed them, by kind of record.

An order that takes over a lost order takes over its rows (`activities.orders`). The audit reports the rows that a
rolled-back order left behind (`lastmile.audit.order_invariants`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lastmile.contract.steps import RecordKind

__all__ = ["ORDER_RECORDS", "OrderRecords"]


@dataclass(frozen=True, slots=True)
class OrderRecords:
    """The rows of one kind, in a table with `tenant_id` and `created_by_order`."""

    table: str
    name: str
    """The SQL expression that names a row to an operator."""
    left: str = "true"
    """The SQL condition for a row that counts as left behind."""
    changed_by: str | None = None
    """The column that names the order that changed the row, or ended it."""

    @property
    def order_columns(self) -> tuple[str, ...]:
        """Return the columns that name an order."""
        return ("created_by_order", *([self.changed_by] if self.changed_by else []))


ORDER_RECORDS: Mapping[RecordKind, OrderRecords] = {
    RecordKind.CUSTOMER: OrderRecords("customers", "ref"),
    RecordKind.SUBSCRIBER: OrderRecords("subscribers", "ref", changed_by="archived_by_order"),
    RecordKind.NETWORK_PROFILE: OrderRecords("network_profiles", "id::text"),
    RecordKind.RADIUS_ACCOUNT: OrderRecords("radcheck", "username", left="lastmile_is_account(attribute, value)"),
    RecordKind.BILLING_SERVICE: OrderRecords("billing_services", "id::text", changed_by="suspended_by_order"),
    RecordKind.DEVICE: OrderRecords("devices", "kind || ' of ' || subscriber_ref", changed_by="updated_by_order"),
    RecordKind.PREFIX: OrderRecords(
        "delegations",
        "coalesce(prefix::text, 'for ' || purpose)",
        left="released_at IS NULL",
        changed_by="replaced_by_order",
    ),
    RecordKind.SUSPENSION: OrderRecords(
        "suspensions", "mode || ' of ' || subscriber_ref", left="ended_at IS NULL", changed_by="ended_by_order"
    ),
    # The invariant `half_changed` reports them.
    RecordKind.PREVIOUS_VALUES: OrderRecords("previous_values", "step", left="false"),
}
