"""What the routers of one process share."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from lastmile.api.auth.gate import Gate
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.order_watch import OrderWatch
from lastmile.db import Database
from lastmile.settings import Settings
from lastmile.telemetry.readiness import Readiness

__all__ = ["ApiContext", "Context"]


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The clients of an API process. `create_app` puts the context into the application's state."""

    settings: Settings
    database: Database
    temporal: OperatorClient
    """Connects with its first request: the API accepts orders while Temporal is away."""
    readiness: Readiness
    gate: Gate
    acceptance: OrderAcceptance
    watch: OrderWatch


async def _context(connection: HTTPConnection) -> ApiContext:
    context: ApiContext = connection.app.state.context
    return context


Context = Annotated[ApiContext, Depends(_context)]
"""The parameter of a route that receives the context."""
