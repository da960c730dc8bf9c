"""The dry run of each step: what the step would do, found out by the domain functions that the step itself calls.

The transaction of the dry run is rolled back, so a rehearsal may write.
"""

from collections.abc import Mapping

from lastmile.services.step_rehearsals import (
    deprovisioning,
    line_changes,
    plans,
    provisioning,
    replacements,
    suspensions,
)
from lastmile.services.step_rehearsals.rehearsal import Rehearsal, Rehearse, StepPlan

__all__ = ["REHEARSALS", "Rehearsal", "StepPlan"]

REHEARSALS: Mapping[str, Rehearse] = {
    **provisioning.REHEARSALS,
    **line_changes.REHEARSALS,
    **plans.REHEARSALS,
    **replacements.REHEARSALS,
    **suspensions.REHEARSALS,
    **deprovisioning.REHEARSALS,
}
