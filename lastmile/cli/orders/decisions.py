"""`lastmile retry`, `skip` and `abandon`: an operator's word on a parked run."""

from pydantic import ValidationError

from lastmile.cli.connections import Temporal, load_settings, the_tenant
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit, UnavailableError
from lastmile.cli.output import tell
from lastmile.client.orders import NotRunningError
from lastmile.contract import Decision
from lastmile.errors import InvalidInputError
from lastmile.validation_messages import mistakes

__all__ = ["decision_of", "steer"]

_OPTIONS = {"by": "--by", "why": "--why", "step": "--step"}


async def steer(
    update: str, subscriber: str, *, tenant: str | None, why: str, by: str | None, step: str | None, as_json: bool
) -> Exit:
    """Release the subscriber's parked run. Raises `NotRunningError` where nothing is parked."""
    if not (by := by or actor()):
        raise InvalidInputError("Your login has no name: say who decides with --by.")
    decision = decision_of(by=by, why=why, step=step)
    settings = load_settings()
    tenant = await the_tenant(settings, tenant)
    temporal = await Temporal.connect(settings)
    if not (order := await temporal.open_run(tenant, subscriber)):
        raise NotRunningError(f"No order of subscriber {subscriber} is running: there is nothing to decide.")
    # Without a worker the update would time out here, and be followed all the same once there is one.
    if lack := await temporal.lack_of_workers():
        raise UnavailableError(f"{order} cannot be steered now. {lack}")
    try:
        done = await temporal.orders.steer(tenant, subscriber, update, decision)
    except NotRunningError as failure:
        raise NotRunningError(f"{order} of subscriber {subscriber}: {failure}") from None
    words = f"{order}: {done}. `lastmile status {subscriber}` shows the progress."
    tell(words, as_json, tenant=tenant, subscriber_ref=subscriber, decision=update, step=step, by=by, done=done)
    return Exit.DONE


def decision_of(*, by: str, why: str, step: str | None) -> Decision:
    """What the options say. Raises `InvalidInputError`."""
    try:
        return Decision(by=by, why=why, step=step)
    except ValidationError as failure:
        raise InvalidInputError("Invalid decision:", mistakes(failure, Decision, _OPTIONS)) from None
