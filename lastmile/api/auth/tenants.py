"""The tenant that a request is for. It comes from the key or token; only callers for all tenants name it."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated

from fastapi import Query

from lastmile.api.auth.principal import Principal
from lastmile.api.problems import ProblemError, Violation
from lastmile.db import Database, PlatformConnection, TenantConnection

__all__ = ["TenantQuery", "one_tenant", "one_tenant_or_all", "transaction"]

TenantQuery = Annotated[
    str | None,
    Query(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$",
        description="The tenant. Only callers that work for all tenants need to name it.",
    ),
]
"""The parameter `?tenant=` of a route."""


def one_tenant(principal: Principal, named: str | None) -> str:
    """Return the one tenant that the request is for. `named` is the tenant in the query or in the body.

    Raises:
        ProblemError: the caller is bound to another tenant; or works for all tenants, and names none.
    """
    if (tenant := one_tenant_or_all(principal, named)) is None:
        missing = Violation(detail="is missing", parameter="tenant")
        words = "Your key or token is for all tenants: name the tenant of the request, as in ?tenant=acme."
        raise ProblemError("invalid", words, errors=[missing])
    return tenant


def one_tenant_or_all(principal: Principal, named: str | None) -> str | None:
    """Return the tenant that is to be read; None: all tenants, which only a caller for all tenants gets.

    Raises:
        ProblemError: the caller is bound to another tenant.
    """
    if principal.tenant is None:
        return named
    if named not in (None, principal.tenant):
        words = f"Your key or token is for tenant {principal.tenant}, and the request names {named}."
        raise ProblemError("wrong-tenant", words)
    return principal.tenant


def transaction(
    database: Database, principal: Principal, tenant: str | None, *, request_id: str = ""
) -> AbstractAsyncContextManager[TenantConnection | PlatformConnection]:
    """Begin a transaction that sees the tenant, or all tenants if `tenant` is None. The audit log names the caller.

    Raises:
        ProblemError: the caller is bound to another tenant.
    """
    tenant = one_tenant_or_all(principal, tenant)
    if tenant is None:
        return database.platform(actor=principal.subject)
    return database.tenant(tenant, actor=principal.subject, order_id=request_id)
