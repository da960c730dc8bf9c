"""Shorter waits, so that a run whose worker was lost ends in seconds. A replay compares none of them."""

from datetime import timedelta
from typing import Any

from temporalio import client, worker

__all__ = ["Impatient", "ShortWaits"]

WORKFLOW_TASK = timedelta(seconds=2)
ATTEMPT = timedelta(seconds=3)


class ShortWaits(client.Interceptor):
    """A lost workflow task is given to another worker after two seconds, not ten."""

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        return _Starting(next)


class _Starting(client.OutboundInterceptor):
    async def start_workflow(self, input: client.StartWorkflowInput) -> client.WorkflowHandle[Any, Any]:
        input.task_timeout = WORKFLOW_TASK
        return await super().start_workflow(input)


class Impatient(client.Plugin, worker.Plugin):
    """For a worker that will be lost: what it leaves to the server to time out, times out soon."""

    def configure_client(self, config: client.ClientConfig) -> client.ClientConfig:
        return config

    async def connect_service_client(self, config: Any, next: Any) -> Any:
        return await next(config)

    def configure_worker(self, config: worker.WorkerConfig) -> worker.WorkerConfig:
        config["sticky_queue_schedule_to_start_timeout"] = timedelta(seconds=1)
        config["interceptors"] = [*(config.get("interceptors") or ()), _Shortening()]
        return config

    async def run_worker(self, worker: worker.Worker, next: Any) -> None:
        await next(worker)

    def configure_replayer(self, config: worker.ReplayerConfig) -> worker.ReplayerConfig:
        return config

    def run_replayer(self, replayer: worker.Replayer, histories: Any, next: Any) -> Any:
        return next(replayer, histories)


class _Shortening(worker.Interceptor):
    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        return _Inbound


class _Inbound(worker.WorkflowInboundInterceptor):
    def init(self, outbound: worker.WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class _Outbound(worker.WorkflowOutboundInterceptor):
    def start_activity(self, input: worker.StartActivityInput) -> Any:
        input.start_to_close_timeout = ATTEMPT
        input.heartbeat_timeout = None
        return super().start_activity(input)
