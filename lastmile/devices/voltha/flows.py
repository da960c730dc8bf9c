"""The flows and meters of a line in VOLTHA, as data.

VOLTHA shows an OLT with its ONUs as one OpenFlow 1.3 switch. A line has four flows. Upstream the ONU sets the C-VLAN
(table 0) and the OLT pushes the S-VLAN (table 1). Downstream the OLT pops the S-VLAN (table 0) and the ONU removes the
C-VLAN (table 1). The metadata that a flow writes has the C-VLAN in bits 48 to 63, the technology profile in bits 32 to
47, and the egress port in bits 0 to 31 (voltha-lib-go, `flows.GetEgressPortNumberFromWriteMetadata`).

The core identifies a flow by its table, priority and match: a second flow with the same three replaces the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from voltha_protos import openflow_13_pb2 as of

__all__ = [
    "Line",
    "addition",
    "identity",
    "line_flows",
    "line_meters",
    "meter_of_onu",
    "meter_removal",
    "removal",
    "same_treatment",
    "same_vlans",
    "serves_port",
]

_PRIORITY = 1000
_PRESENT = 0x1000
"""OFPVID_PRESENT: a VLAN id in a match or a set-field has this bit; alone it means a frame without a tag."""
_TPID = 0x8100
_GOTO_TABLE, _WRITE_METADATA, _APPLY_ACTIONS, _METER = 1, 2, 4, 6
_BURST = 1000
"""The burst of a meter in kbit. VOLTHA takes one band with a burst as best effort up to the rate."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line at its place in VOLTHA."""

    uni: int
    """The port of the ONU's Ethernet interface, in the numbers of the logical device."""
    nni: int
    """The uplink port of the OLT."""
    s_vlan: int
    c_vlan: int
    technology_profile: int
    tagged: bool = False
    """Whether frames have the C-VLAN's tag at the ONU's Ethernet interface."""

    @property
    def upstream_meter(self) -> int:
        return _meter_id(self.uni, self.c_vlan, 0)

    @property
    def downstream_meter(self) -> int:
        return _meter_id(self.uni, self.c_vlan, 1)


def line_flows(line: Line) -> list[Any]:
    """Return the four flows of a line, each as the `ofp_flow_mod` that adds the flow."""
    profile = line.technology_profile << 32
    c_vlan, s_vlan = _PRESENT | line.c_vlan, _PRESENT | line.s_vlan
    at_uni = c_vlan if line.tagged else _PRESENT
    up, down = line.upstream_meter, line.downstream_meter
    inner = line.c_vlan << 48
    # The second flow of a direction writes only the profile: the OLT adapter takes a C-VLAN there for a second tag on
    # the PON. Downstream it matches the UNI in addition, as ONOS does. Otherwise two ONUs of the OLT with one C-VLAN
    # would have the same flow, and the second line would take the first one's frames.
    return [
        _flow(0, [_port(line.uni), _vlan(at_uni)], inner | profile | line.nni, up, [_set_vlan(c_vlan)], goto=1),
        _flow(1, [_port(line.uni), _vlan(c_vlan)], profile, up, [_push(), _set_vlan(s_vlan), _output(line.nni)]),
        _flow(
            0,
            [_port(line.nni), _vlan(s_vlan), _metadata(inner | line.uni)],
            inner | profile | line.uni,
            down,
            [of.ofp_action(type=of.OFPAT_POP_VLAN)],
            goto=1,
        ),
        _flow(
            1,
            [_port(line.nni), _vlan(c_vlan), _metadata(line.uni)],
            profile,
            down,
            [_set_vlan(at_uni), _output(line.uni)],
        ),
    ]


def identity(flow: Any) -> tuple[object, ...]:
    """Return what the core identifies a flow by: two flows with one identity are one flow."""
    fields = sorted(field.SerializeToString(deterministic=True) for field in flow.match.oxm_fields)
    return flow.table_id, flow.priority, flow.match.type, *fields


def same_treatment(one: Any | None, other: Any) -> bool:
    """Return whether two flows do the same with a frame. A flow that is missing (None) does not."""
    return one is not None and list(one.instructions) == list(other.instructions)


def same_vlans(one: Any, other: Any) -> bool:
    """Return whether two flows set the same VLANs; otherwise they belong to different lines."""
    return _vlans_set(one) == _vlans_set(other)


def serves_port(flow: Any, unis: Iterable[int], nnis: Iterable[int]) -> bool:
    """Return whether the flow takes frames from one of the UNIs, or to one of them from an uplink."""
    ports = set(unis)
    ingress = next(
        (one.ofb_field.port for one in flow.match.oxm_fields if one.ofb_field.type == of.OFPXMT_OFB_IN_PORT), 0
    )
    if ingress in ports:
        return True
    if ingress not in set(nnis):
        return False  # the low bits of what a DHCP trap of another UNI writes are a meter, not a port
    written = {one.write_metadata.metadata & 0xFFFFFFFF for one in flow.instructions if one.type == _WRITE_METADATA}
    outputs = {action.output.port for action in _actions(flow) if action.type == of.OFPAT_OUTPUT}
    return not ports.isdisjoint(written | outputs)


def addition(flow: Any) -> Any:
    """Return the change that adds the flow. A repeated addition is the same to the last bit, and changes nothing."""
    cookie = blake2b(repr(identity(flow)).encode(), digest_size=8).digest()
    return of.ofp_flow_mod(
        cookie=int.from_bytes(cookie),
        table_id=flow.table_id,
        priority=flow.priority,
        match=flow.match,
        instructions=flow.instructions,
    )


def removal(flow: Any) -> Any:
    """Return the change that removes exactly this flow."""
    change = addition(flow)
    change.command = of.OFPFC_DELETE_STRICT
    return change


def line_meters(line: Line, download_kbps: int, upload_kbps: int) -> list[Any]:
    """Return the two meters of a line, each as the `ofp_meter_mod` that adds the meter."""
    rates = {line.upstream_meter: upload_kbps, line.downstream_meter: download_kbps}
    return [
        of.ofp_meter_mod(
            flags=of.OFPMF_KBPS,
            meter_id=meter,
            bands=[
                of.ofp_meter_band_header(
                    type=of.OFPMBT_DROP, rate=rate, burst_size=_BURST, drop=of.ofp_meter_band_drop()
                )
            ],
        )
        for meter, rate in rates.items()
    ]


def meter_of_onu(meter_id: int, unis: Iterable[int]) -> bool:
    """Return whether the meter belongs to a line on one of the UNIs."""
    return meter_id >> 13 in {uni >> 8 for uni in unis}


def meter_removal(meter_id: int) -> Any:
    """Return the change that removes a meter, and every flow that uses the meter."""
    return of.ofp_meter_mod(command=of.OFPMC_DELETE, meter_id=meter_id)


def _meter_id(uni: int, c_vlan: int, direction: int) -> int:
    # The core keeps meters through a restart that loses the flows. So a line's meter follows from the line, and a
    # line that gets its flows again has its rates again. The low 8 bits of a UNI number the ports of one ONU.
    return (uni >> 8) << 13 | c_vlan << 1 | direction


def _flow(
    table: int, match: Sequence[Any], metadata: int, meter: int, actions: Sequence[Any], goto: int | None = None
) -> Any:
    instructions = [
        of.ofp_instruction(type=_WRITE_METADATA, write_metadata=of.ofp_instruction_write_metadata(metadata=metadata)),
        of.ofp_instruction(type=_METER, meter=of.ofp_instruction_meter(meter_id=meter)),
        of.ofp_instruction(type=_APPLY_ACTIONS, actions=of.ofp_instruction_actions(actions=actions)),
    ]
    if goto is not None:
        instructions.append(
            of.ofp_instruction(type=_GOTO_TABLE, goto_table=of.ofp_instruction_goto_table(table_id=goto))
        )
    return of.ofp_flow_mod(
        table_id=table,
        priority=_PRIORITY,
        match=of.ofp_match(type=of.OFPMT_OXM, oxm_fields=match),
        instructions=instructions,
    )


def _field(**value: int) -> Any:
    return of.ofp_oxm_field(oxm_class=of.OFPXMC_OPENFLOW_BASIC, ofb_field=of.ofp_oxm_ofb_field(**value))


def _port(number: int) -> Any:
    return _field(type=of.OFPXMT_OFB_IN_PORT, port=number)


def _vlan(vid: int) -> Any:
    return _field(type=of.OFPXMT_OFB_VLAN_VID, vlan_vid=vid)


def _metadata(value: int) -> Any:
    return _field(type=of.OFPXMT_OFB_METADATA, table_metadata=value)


def _set_vlan(vid: int) -> Any:
    return of.ofp_action(type=of.OFPAT_SET_FIELD, set_field=of.ofp_action_set_field(field=_vlan(vid)))


def _push() -> Any:
    return of.ofp_action(type=of.OFPAT_PUSH_VLAN, push=of.ofp_action_push(ethertype=_TPID))


def _output(port: int) -> Any:
    return of.ofp_action(type=of.OFPAT_OUTPUT, output=of.ofp_action_output(port=port))


def _actions(flow: Any) -> list[Any]:
    return [action for one in flow.instructions if one.type == _APPLY_ACTIONS for action in one.actions.actions]


def _vlans_set(flow: Any) -> list[int]:
    return [action.set_field.field.ofb_field.vlan_vid for action in _actions(flow) if action.type == of.OFPAT_SET_FIELD]
