"""Replay the recorded requests in order against the stand-in, and compare the status and the content of each reply."""

import json
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from voltha_protos import voltha_pb2

from lastmile.devstack.voltha import VolthaModel, VolthaServer

# In the order in which the core gave them: the OLT, a device of an unknown type, the logical device, and two ONUs.
IDS = (
    "313011e2-40cb-4c0b-9933-d16ed242c048",
    "46f1b3b8-2756-4a54-a3d3-801342a34b37",
    "c167c460-83b3-41ec-9f50-16290ff86ca0",
    "5d1ab69f-eb9c-4ca8-9b30-fe2c9bd58766",
    "30f960aa-e92c-4d0f-b20a-480ccd6baf32",
    "the first ONU, discovered again",
)
METHODS = voltha_pb2.DESCRIPTOR.services_by_name["VolthaService"].methods_by_name
# The stand-in has no performance metrics, and another clock.
LEFT_OUT = {"pm_configs", "last_communication"}


def pairs(file: str) -> list[dict[str, Any]]:
    """Read a recording: note, rpc, request, status, response (a text for another status than OK), seconds."""
    with (Path(__file__).parent / file).open() as lines:
        return [json.loads(line) for line in lines]


async def ask(server: VolthaServer, pair: dict[str, Any]) -> tuple[str, Any]:
    """Send the request of a pair; return the status, and the reply or the details."""
    method = METHODS[pair["rpc"]]
    async with grpc.aio.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        call = channel.unary_unary(
            f"/voltha.VolthaService/{pair['rpc']}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        try:
            reply = await call(ParseDict(pair["request"], GetMessageClass(method.input_type)()))
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details()
    return "OK", MessageToDict(reply, preserving_proto_field_name=True)


def comparable(reply: Any) -> Any:
    """Return the reply without what differs, and with lists of objects by id: the core's have no order."""
    if isinstance(reply, list):
        return sorted(map(comparable, reply), key=lambda one: str(one.get("id", "")) if isinstance(one, dict) else "")
    if isinstance(reply, dict):
        return {name: comparable(value) for name, value in reply.items() if name not in LEFT_OUT}
    return reply


async def prepare(note: str, server: VolthaServer) -> None:
    """Let happen what happened in the network before a request."""
    if note == "ONU as VOLTHA holds it":
        server.model.plug_in("BBSM00000001", IDS[0])
        server.model.plug_in("BBSM00000002", IDS[0])
    elif note == "ONU without power as VOLTHA holds it":
        server.model.cut_power("BBSM00000002")
    elif note == "core killed":
        await server.stop()
    elif note == "delete the OLT without disabling it":
        await server.start()
        server.model.lose_flows()


async def test_replies_equal_the_recorded_ones() -> None:
    ids = iter(IDS)
    differences = []
    async with VolthaServer(VolthaModel(new_id=lambda: next(ids))) as server:
        for pair in [*pairs("contract.jsonl"), *pairs("edges.jsonl")]:
            await prepare(pair["note"], server)
            status, reply = await ask(server, pair)
            same = status == pair["status"] and (
                status == "UNAVAILABLE" or comparable(reply) == comparable(pair["response"])
            )
            if not same:
                differences.append(f"{pair['note']}: {status} {reply}\n  recorded: {pair['status']} {pair['response']}")
    assert not differences, "\n".join(differences)
