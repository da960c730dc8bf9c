"""Lines on ONUs of the stand-in, and what the stand-in has of them."""

from typing import Any

from voltha_protos import openflow_13_pb2 as of

from lastmile.devices.controllers import LineDevice
from lastmile.devstack.voltha import VolthaModel

__all__ = ["ONU", "SECOND", "SETTLED", "flows", "line", "vlans"]

ONU, SECOND = "BBSM00000001", "BBSM00000002"
SETTLED = 0.1
"""The driver's pause before it reads back: ten times what the stand-in needs."""


def line(onu: str = ONU, s_vlan: int | None = 100, c_vlan: int | None = 7, **values: Any) -> LineDevice:
    """Return a line on an ONU."""
    return LineDevice("S-1", onu, "olt-1", "1/1", s_vlan, c_vlan, tenant="acme", **values)


def flows(model: VolthaModel) -> list[Any]:
    """Return the flows of all OLTs."""
    return [flow for table in model.tables.values() for flow in table.flows.values()]


def vlans(model: VolthaModel) -> list[tuple[int, list[int], list[int]]]:
    """Return of each flow its table, and the VLAN ids that it matches and sets, in order."""
    return sorted(
        (
            flow.table_id,
            [one.ofb_field.vlan_vid for one in flow.match.oxm_fields if one.ofb_field.type == of.OFPXMT_OFB_VLAN_VID],
            [
                action.set_field.field.ofb_field.vlan_vid
                for one in flow.instructions
                for action in one.actions.actions
                if action.type == of.OFPAT_SET_FIELD
            ],
        )
        for flow in flows(model)
    )
