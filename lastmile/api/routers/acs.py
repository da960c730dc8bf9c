"""What an ACS asks: the settings of a CPE."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant
from lastmile.api.context import Context
from lastmile.api.problems import ProblemError
from lastmile.fields.devices import DeviceText, MacAddress, Oui
from lastmile.services.cpe_settings import CpeSettings, find_cpe_settings

__all__ = ["router"]

router = APIRouter(prefix="/v1/acs", tags=["acs"], route_class=GuardedRoute)


@router.get("/cpe-settings")
async def get_cpe_settings(
    context: Context,
    caller: Annotated[Principal, requires(Permission.ACS_READ)],
    response: Response,
    oui: Annotated[Oui, Query(description="The OUI of the CPE's manufacturer (TR-069).")],
    serial: Annotated[DeviceText, Query(description="The serial number of the CPE.")],
    product_class: Annotated[DeviceText | None, Query(description="The product class, if the CPE reports one.")] = None,
    mac: Annotated[
        MacAddress | None, Query(description="The MAC address, for a line whose order names its CPE by it alone.")
    ] = None,
    tenant: TenantQuery = None,
) -> CpeSettings:
    """Read what a CPE must be set to, with the password of its line. The audit log records the caller once a day."""
    found = await find_cpe_settings(
        context.database,
        one_tenant(caller, tenant),
        oui=oui,
        product_class=product_class,
        serial=serial,
        mac=mac,
        asked_by=caller.subject,
    )
    if found is None:
        raise ProblemError("not-found", f"No line has the CPE with the OUI {oui} and the serial number {serial}.")
    response.headers["Cache-Control"] = "no-store"
    return found
