"""`lastmile retry`, `skip` and `abandon`: an operator's decision on a parked order."""

from pydantic import ValidationError

from lastmile.cli.connections import find_tenant, load_settings, open_operator
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_result
from lastmile.client.decisions import UPDATES, DecisionAction, decide
from lastmile.contract import Decision
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings
from lastmile.validation_messages import mistakes

__all__ = ["check_decider", "parse_decision", "release"]

_OPTIONS = {"by": "--by", "why": "--why", "step": "--step"}


async def release(
    action: DecisionAction,
    subscriber: str,
    *,
    tenant: str | None,
    why: str,
    by: str | None,
    step: str | None,
    as_json: bool,
) -> Exit:
    """Release the subscriber's parked order. Raises `NotRunningError` if no order is parked."""
    settings = load_settings()
    check_decider(settings, by)
    decision = parse_decision(by=by, why=why, step=step)
    tenant = await find_tenant(settings, tenant)
    async with open_operator(settings) as operator:
        order, answer = await decide(operator, tenant, subscriber, action, decision)
    print_result(
        f"{order}: {answer}. `lastmile status {subscriber}` shows the progress.",
        as_json,
        tenant=tenant,
        subscriber_ref=subscriber,
        decision=UPDATES[action],
        step=step,
        by=decision.by,
        done=answer,
    )
    return Exit.DONE


def check_decider(settings: Settings, by: str | None) -> None:
    """Refuse `--by` over the REST API, which records the caller of the token. Raises `InvalidInputError`."""
    if settings.api_url is not None and by is not None:
        raise InvalidInputError("--by: the REST API (LASTMILE_API_URL) records the caller of your token.")


def parse_decision(*, by: str | None, why: str, step: str | None) -> Decision:
    """Make a decision from the options; without `--by` it is the user's. Raises `InvalidInputError`."""
    if not (by := by or current_user()):
        raise InvalidInputError("Your login has no name: name the person who decides with --by.")
    try:
        return Decision(by=by, why=why, step=step)
    except ValidationError as failure:
        raise InvalidInputError("Invalid decision:", mistakes(failure, Decision, _OPTIONS)) from None
