"""The search attributes by which operators find runs."""

from temporalio.common import SearchAttributeKey

__all__ = ["ALL", "ATTENTION", "OPERATION", "STEP", "TENANT"]

TENANT = SearchAttributeKey.for_keyword("LastmileTenant")
OPERATION = SearchAttributeKey.for_keyword("LastmileOperation")
STEP = SearchAttributeKey.for_keyword("LastmileStep")
"""The step at which a run failed, is parked, or waits."""
ATTENTION = SearchAttributeKey.for_bool("LastmileAttention")
"""True while a run waits for an operator's decision."""

ALL = (TENANT, OPERATION, STEP, ATTENTION)
