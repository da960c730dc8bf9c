"""What a route requires of its caller.

Each route declares one requirement, or that a hook source sends its requests, or that it is public.
"""

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from fastapi import FastAPI, Request, Response, Security, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from lastmile.api.auth.hook_senders import HookSender
from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.tokens import ALL_TENANTS, InvalidTokenError
from lastmile.api.bodies import JsonRequest
from lastmile.api.context import ApiContext
from lastmile.api.parameters import refuse_unknown_parameters
from lastmile.api.problems import ProblemError
from lastmile.api.rate_limits import RateClass, TooManyRequestsError
from lastmile.services.api_keys import PrincipalKind
from lastmile.telemetry.metrics import API_REFUSALS

__all__ = ["GuardedRoute", "Requirement", "protected", "public", "requires", "undeclared"]

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="An API key (`lm_…`, of `lastmile api-key add`) or a JSON Web Token of your identity provider.",
)


@dataclass(frozen=True)
class Requirement:
    """A dependency that gives the principal of a request, if it has the permission and is within its rate."""

    permission: Permission | None
    """None: any caller with a valid key or token, for what belongs to the caller itself."""
    rate_class: RateClass

    async def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> Principal:
        return await self.check(request)

    async def check(self, request: Request) -> Principal:
        """Return the principal of the request, which is checked and counted once.

        Raises:
            ProblemError: the caller is unknown, lacks the permission or has sent too much.
        """
        known: Principal | None = getattr(request.state, "principal", None)
        if known is None:
            known = request.state.principal = await self._check(request)
        return known

    async def _check(self, request: Request) -> Principal:
        context: ApiContext = request.app.state.context
        credentials = await _BEARER(request)
        if credentials is None:
            API_REFUSALS.labels("unknown", "token").inc()
            _unauthorized("The request has no token. Send `Authorization: Bearer` with an API key or a token.")
        try:
            principal = await context.gate.authenticator.authenticate(credentials.credentials)
        except InvalidTokenError as refusal:
            API_REFUSALS.labels("unknown", "token").inc()
            _unauthorized(str(refusal), "invalid_token")
        # Requests without the permission count too: otherwise a caller could send them without a limit.
        await self._count(request, context, principal)
        if self.permission is not None and self.permission not in principal.permissions:
            API_REFUSALS.labels(principal.tenant or ALL_TENANTS, "permission").inc()
            raise ProblemError(
                "forbidden",
                f"The request needs the permission {self.permission}, and your key or token does not grant it.",
                headers=_challenge("insufficient_scope", scope=self.permission),
            )
        refuse_unknown_parameters(request)
        return principal

    async def _count(self, request: Request, context: ApiContext, principal: Principal) -> None:
        is_system = principal.kind is PrincipalKind.SYSTEM
        rate = (RateClass.SYSTEM if is_system else self.rate_class).value
        try:
            allowance = await context.gate.limiter.take(rate, principal.tenant, principal.subject)
        except TooManyRequestsError as refusal:
            API_REFUSALS.labels(principal.tenant or ALL_TENANTS, "rate").inc()
            headers = {"Retry-After": str(refusal.retry_after)} | refusal.allowance.headers
            raise ProblemError("too-many-requests", str(refusal), headers=headers) from None
        request.state.headers = allowance.headers


class GuardedRoute(APIRoute):
    """A route that checks its caller before it reads the body: `APIRouter(route_class=GuardedRoute)`.

    The framework reads the body before it runs dependencies: a caller without a token would be told about its body.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        requirements = [call for call in _calls(self.dependant) if isinstance(call, Requirement)]
        has_body = self.body_field is not None

        async def guarded(request: Request) -> Response:
            for requirement in requirements:
                await requirement.check(request)
            return await handle(await JsonRequest.of(request) if has_body else request)

        return guarded


def requires(permission: Permission | None, rate_class: RateClass = RateClass.STANDARD) -> params.Security:
    """Declare what a route requires: `principal: Annotated[Principal, requires(Permission.ORDERS_READ)]`."""
    return params.Security(Requirement(permission, rate_class), scopes=[permission.value] if permission else [])


async def public() -> None:
    """Declare that a route needs no caller: `dependencies=[Depends(public)]`."""


def undeclared(app: FastAPI) -> list[str]:
    """List the routes that make no declaration, or several, and those that are not guarded."""
    return [
        f"{' '.join(sorted(route.methods or ()))} {route.path}"
        for route in iter_route_contexts(app.routes)
        if len(declared := _declarations(route)) != 1
        or (declared != [public] and not isinstance(route.original_route, GuardedRoute))
    ]


def protected(app: FastAPI) -> Iterator[tuple[RouteContext, Requirement]]:
    """Yield each route that keys and tokens open, with what it requires."""
    for route in iter_route_contexts(app.routes):
        for declared in _declarations(route):
            if isinstance(declared, Requirement):
                yield route, declared


def _declarations(route: RouteContext) -> list[Any]:
    """Return the declarations of the route. A route of another framework has none."""
    dependant = getattr(route, "dependant", None)
    calls = () if dependant is None else _calls(dependant)
    return [call for call in calls if call is public or isinstance(call, Requirement | HookSender)]


def _calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)


def _unauthorized(words: str, error: str | None = None) -> NoReturn:
    raise ProblemError("unauthorized", words, headers=_challenge(error))


def _challenge(error: str | None, **others: str) -> dict[str, str]:
    """Return the challenge of RFC 6750 section 3: no error code where the request has no token."""
    parameters = {"realm": "lastmile"} | ({} if error is None else {"error": error}) | others
    return {"WWW-Authenticate": "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())}
