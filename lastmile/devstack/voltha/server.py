"""The gRPC server of the stand-in, on a loopback socket."""

import asyncio
from typing import Any, Self

import grpc
from google.protobuf.message_factory import GetMessageClass
from voltha_protos import voltha_pb2

from lastmile.devstack.ports import HOST
from lastmile.devstack.voltha.model import RpcError, VolthaModel

__all__ = ["VolthaServer"]

_SERVICE = voltha_pb2.DESCRIPTOR.services_by_name["VolthaService"]


class VolthaServer:
    """A stand-in for one core on `port`; 0 selects a free port. Its `model` has what the core knows, and the faults.

    `stop` and `start` are a restart of the core, on the same port.
    """

    def __init__(self, model: VolthaModel | None = None, *, port: int = 0) -> None:
        self.model = model or VolthaModel()
        self.most_at_once = 0
        """The most requests that were answered at the same time."""
        self._at_once = 0
        self._server: Any = None
        self._port = port

    @property
    def url(self) -> str:
        return f"grpc://{HOST}:{self._port}"

    async def start(self) -> None:
        """Listen."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {name: self._handler(name, rpc) for name, rpc in self.model.rpcs().items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),))
        self._port = self._server.add_insecure_port(f"{HOST}:{self._port}")
        await self._server.start()

    async def stop(self) -> None:
        """End every connection at once, as when the core is killed."""
        await self._server.stop(None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _handler(self, name: str, rpc: Any) -> Any:
        faults = self.model.faults

        async def answer(request: Any, context: Any) -> Any:
            self.model.asked.append(name)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            try:
                await asyncio.sleep(faults.slow_seconds)
            finally:
                self._at_once -= 1
            if faults.unavailable:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the core is not ready")
            try:
                reply = rpc(request)
            except RpcError as error:
                await context.abort(error.status, error.details)
            if faults.loses_reply():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is lost")
            return reply

        request_type = GetMessageClass(_SERVICE.methods_by_name[name].input_type)
        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request_type.FromString,
            response_serializer=lambda reply: reply.SerializeToString(),
        )
