"""The search attributes by which an operator finds runs, and how they come to exist in a namespace."""

from temporalio.common import SearchAttributeKey

__all__ = ["ATTENTION", "OPERATION", "STEP", "TENANT"]

TENANT = SearchAttributeKey.for_keyword("LastmileTenant")
OPERATION = SearchAttributeKey.for_keyword("LastmileOperation")
STEP = SearchAttributeKey.for_keyword("LastmileStep")
"""The step at which a run failed, is parked, or waits."""
ATTENTION = SearchAttributeKey.for_bool("LastmileAttention")
"""True while a run waits for a person's decision."""
