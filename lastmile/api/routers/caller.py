"""The caller that a token stands for, so that a program can check its token before it sends an order."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.services.api_keys import PrincipalKind

__all__ = ["router"]

router = APIRouter(tags=["caller"], route_class=GuardedRoute)


class Caller(BaseModel):
    """Who the key or token says that you are."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    subject: str
    """The name of the caller in the audit log."""
    tenant: str | None
    """null: the key or token is for all tenants, and each request names the tenant."""
    permissions: list[Permission]
    kind: PrincipalKind
    expires: datetime | None
    """null: never."""


@router.get("/v1/caller")
async def get_caller(caller: Annotated[Principal, requires(None)]) -> Caller:
    """Check your key or token: for which tenant it is, what it permits, and when it expires."""
    return Caller(
        subject=caller.subject,
        tenant=caller.tenant,
        permissions=sorted(caller.permissions),
        kind=caller.kind,
        expires=caller.expires,
    )
