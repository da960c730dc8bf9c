"""The flows and meters of a line as data, compared with the flows that a real VOLTHA has brought to an ONU."""

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from voltha_protos import openflow_13_pb2 as of

from lastmile.devices.voltha.flows import (
    Line,
    addition,
    identity,
    line_flows,
    line_meters,
    meter_of_onu,
    removal,
    serves_port,
)
from tests.devices.voltha.test_contract import pairs

UNI, NNI = 256, 16777216
RECORDED = Line(uni=UNI, nni=NNI, s_vlan=900, c_vlan=900, technology_profile=64)
TECHNOLOGY_PROFILE = 0xFFFF << 32


def recorded(note: str) -> Any:
    """Return the flow of a recorded request."""
    (pair,) = [pair for pair in pairs("contract.jsonl") if pair["note"] == note]
    return ParseDict(pair["request"]["flow_mod"], of.ofp_flow_mod())


def normalised(flow: Any, *, table: int) -> Any:
    """Return the flow without its cookie and meter, and in table 1 without what Lastmile does otherwise than recorded.

    `lastmile/devices/voltha/flows.py` says why: the metadata has only the technology profile there, and downstream the
    flow matches the UNI in addition.
    """
    copy = of.ofp_flow_mod()
    copy.CopyFrom(flow)
    copy.cookie = 0
    fields = [one for one in copy.match.oxm_fields if table == 0 or one.ofb_field.type != of.OFPXMT_OFB_METADATA]
    del copy.match.oxm_fields[:]
    copy.match.oxm_fields.extend(fields)
    for one in copy.instructions:
        if one.HasField("meter"):
            one.meter.meter_id = 0
        if one.HasField("write_metadata") and table == 1:
            one.write_metadata.metadata &= TECHNOLOGY_PROFILE
    return copy


@pytest.mark.parametrize(
    ("number", "note"),
    [*enumerate(["up: untagged -> C", "up: C -> S+C", "down: S+C -> C", "down: C -> untagged"])],
)
def test_flow_of_a_line_equals_the_recorded_one(number: int, note: str) -> None:
    own, real = line_flows(RECORDED)[number], recorded(note)
    table = real.table_id
    assert normalised(own, table=table) == normalised(real, table=table)


def test_lines_with_one_c_vlan_on_two_onus_have_eight_flows() -> None:
    lines = [Line(uni, NNI, s_vlan, 7, 64) for uni in (256, 512) for s_vlan in (100, 200)]
    for one, other in [(lines[0], lines[3]), (lines[0], lines[2])]:
        assert len({identity(flow) for line in (one, other) for flow in line_flows(line)}) == 8


def test_flow_removal_matches_the_flow_that_was_added() -> None:
    for flow in line_flows(RECORDED):
        assert identity(removal(flow)) == identity(addition(flow))
        assert (addition(flow).command, removal(flow).command) == (of.OFPFC_ADD, of.OFPFC_DELETE_STRICT)


def test_flow_additions_have_cookies_of_their_own() -> None:
    lines = [RECORDED, Line(512, NNI, 900, 900, 64)]
    cookies = {addition(flow).cookie for line in lines for flow in line_flows(line)}
    assert len(cookies) == 8
    assert 0 not in cookies


def test_serves_port_finds_the_flows_of_one_onu() -> None:
    own, other = line_flows(RECORDED), line_flows(Line(512, NNI, 900, 900, 64))
    assert [serves_port(flow, [UNI], [NNI]) for flow in (*own, *other)] == [True] * 4 + [False] * 4


def test_serves_port_takes_no_meter_for_a_port() -> None:
    """The DHCP trap of ONOS writes a meter where other flows write a port."""
    trap = recorded("DHCP trap of the UNI")
    assert serves_port(trap, [UNI], [NNI])
    assert not serves_port(trap, [1], [NNI])  # the meter of the recorded trap is 1


def test_meters_of_lines_differ_by_onu_and_c_vlan() -> None:
    lines = [Line(uni, NNI, 900, c_vlan, 64) for uni in (256, 512) for c_vlan in (1, 4094)]
    meters = [meter.meter_id for line in lines for meter in line_meters(line, 100, 50)]
    assert len(set(meters)) == 8
    assert [meter_of_onu(meter, [512]) for meter in meters] == [False] * 4 + [True] * 4


def test_meters_have_the_rates_of_their_direction() -> None:
    rates = {meter.meter_id: meter.bands[0].rate for meter in line_meters(RECORDED, 100_000, 50_000)}
    assert rates == {RECORDED.downstream_meter: 100_000, RECORDED.upstream_meter: 50_000}
    upstream, _, downstream, _ = line_flows(RECORDED)
    assert [one.meter.meter_id for one in upstream.instructions if one.HasField("meter")] == [RECORDED.upstream_meter]
    assert [one.meter.meter_id for one in downstream.instructions if one.HasField("meter")] == [
        RECORDED.downstream_meter
    ]
