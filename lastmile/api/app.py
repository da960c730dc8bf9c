"""The application of the REST API."""

from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from lastmile.api.auth.hook_senders import HookGate
from lastmile.api.context import ApiContext
from lastmile.api.cross_origin import cross_origin
from lastmile.api.openapi import describe
from lastmile.api.problem_handlers import add_problem_handlers
from lastmile.api.requests import TIME_LIMITS, RequestMiddleware, TimeLimits
from lastmile.api.routers import (
    acs,
    attention,
    caller,
    customers,
    delegations,
    health,
    hooks,
    ipv6_lifecycle,
    network_profiles,
    orders,
    pages,
    subscribers,
)

__all__ = ["create_app"]

ROUTERS = (
    health.router,
    pages.router,
    caller.router,
    orders.router,
    attention.router,
    subscribers.router,
    network_profiles.router,
    customers.router,
    delegations.router,
    ipv6_lifecycle.router,
    acs.router,
    hooks.router,
)


def create_app(context: ApiContext | None = None, limits: TimeLimits = TIME_LIMITS) -> FastAPI:
    """Return the application. Without a context it serves no request, and describes itself."""
    app = FastAPI(
        title="Lastmile",
        description="Order, watch and steer broadband lines.",
        version="1",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(RequestMiddleware, limits=limits), *(cross_origin(context.settings) if context else ())],
    )
    app.state.context = context
    app.state.hook_gate = HookGate()
    add_problem_handlers(app)
    for router in ROUTERS:
        app.include_router(router)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # the way that FastAPI documents
    return app
