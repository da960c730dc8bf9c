"""The choice of a controller: by tenant, OLT and model, the most specific one first."""

import pytest

from lastmile.devices.controllers import LineDevice
from lastmile.devices.errors import ControllerUnavailableError
from lastmile.devices.records import DeviceKind
from lastmile.devices.routing import Controllers, OnuRouter, Route, Router
from lastmile.devices.scopes import Scope
from tests.support.controllers import RecordingController

ONU = DeviceKind.ONU
ANY = Scope(ONU)
OLT_1 = Scope(ONU, olts=frozenset({"olt-1"}))
ACME = Scope(ONU, "acme")
ACME_OLT_1 = Scope(ONU, "acme", frozenset({"olt-1"}))
OTHER = Scope(ONU, "other")


def onu(olt: str | None = "olt-1", tenant: str = "acme") -> LineDevice:
    return LineDevice("S-1", "ACME00000001", olt, tenant=tenant)


def cpe(identity: str, **names: str) -> LineDevice:
    return LineDevice("S-1", identity, "olt-1", tenant="acme", **names)


@pytest.mark.parametrize(
    ("scopes", "device", "chosen"),
    [
        ([ANY, OLT_1, ACME, ACME_OLT_1, OTHER], onu(), ACME_OLT_1),
        ([ANY, OLT_1, ACME, OTHER], onu(), ACME),
        ([ANY, OLT_1, OTHER], onu(), OLT_1),
        ([ANY, OTHER], onu(), ANY),
        ([ANY, OLT_1, ACME_OLT_1], onu("olt-2"), ANY),
        ([OLT_1, ACME_OLT_1], onu(None), None),
        ([OTHER, OLT_1], onu("olt-2"), None),
        ([ACME, ACME_OLT_1], onu(tenant="other"), None),
    ],
)
async def test_call_goes_to_the_most_specific_controller(
    scopes: list[Scope], device: LineDevice, chosen: Scope | None
) -> None:
    controllers = {scope: RecordingController() for scope in scopes}
    router = OnuRouter(ONU, [Route(scope, controller) for scope, controller in controllers.items()])
    assert router.controls(device) is (chosen is not None)
    if chosen is None:
        with pytest.raises(ControllerUnavailableError, match="no OLT controller is configured"):
            await router.switch_on(device)
    else:
        await router.switch_on(device)
    assert [scope for scope, controller in controllers.items() if controller.told] == ([chosen] if chosen else [])


@pytest.mark.parametrize(
    ("device", "chosen"),
    [
        (cpe("00:1a:2b:00:00:01"), "oui"),
        (cpe("00:1a:2c:00:00:01"), "any"),
        (cpe("00:1a:2c:00:00:01", oui="001A2B"), "oui"),
        (cpe("001A2B-HGW-1", oui="001A2B", product_class="HGW"), "class"),
        (cpe("001A2C-HGW2-1", oui="001A2C", product_class="HGW2"), "any"),
    ],
)
async def test_cpe_is_chosen_by_product_class_then_oui(device: LineDevice, chosen: str) -> None:
    models = {"any": frozenset[str](), "oui": frozenset({"001A2B"}), "class": frozenset({"HGW"})}
    controllers = {name: RecordingController() for name in models}
    routes = [Route(Scope(DeviceKind.CPE, models=models[name]), controllers[name]) for name in models]
    await Router(DeviceKind.CPE, routes).switch_on(device)
    assert [name for name, controller in controllers.items() if controller.told] == [chosen]


async def test_error_without_a_controller_names_device_place_and_remedy() -> None:
    with pytest.raises(ControllerUnavailableError) as failure:
        await Controllers.everywhere().onu.set_speed(onu())
    assert str(failure.value) == (
        "ACME00000001: no OLT controller is configured for olt-1. Add one with `lastmile controller add`."
    )


@pytest.mark.parametrize(
    ("one", "other", "competes"),
    [
        (ANY, ANY, True),
        (ANY, OLT_1, False),
        (ANY, ACME, False),
        (ACME, OTHER, False),
        (OLT_1, Scope(ONU, olts=frozenset({"olt-1", "olt-2"})), True),
        (OLT_1, Scope(ONU, olts=frozenset({"olt-2"})), False),
        (OLT_1, ACME_OLT_1, False),
        (ANY, Scope(DeviceKind.CPE), False),
    ],
)
def test_scopes_compete_where_neither_goes_first(one: Scope, other: Scope, competes: bool) -> None:
    assert (one.competes_with(other), other.competes_with(one)) == (competes, competes)
