"""The row about Temporal in the platform's dashboard, from the metrics of the SDK."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from grafana.parts import RATE, WIDTH, graph, p95, query

__all__ = ["temporal"]

THIRD = WIDTH // 3


def temporal() -> list[Builder[models.Panel]]:
    """Return the panels about the load of the workers and their requests to Temporal."""
    return [
        graph(
            "Waiting for a worker",
            "95 of 100 tasks wait at most this time in the queue. More workers reduce the time.",
            query(p95("temporal_workflow_task_schedule_to_start_latency_seconds"), "workflow tasks"),
            query(p95("temporal_activity_schedule_to_start_latency_seconds"), "activities"),
            unit=units.Seconds,
            width=THIRD,
        ),
        graph(
            "Free slots",
            "Free slots of all workers. At 0, the workers are fully loaded.",
            query("sum by (worker_type) (temporal_worker_task_slots_available)", "{{worker_type}}"),
            unit=units.Short,
            width=THIRD,
        ),
        graph(
            "Runs in memory",
            "Runs in the caches of all workers.",
            query("sum(temporal_sticky_cache_size)", "runs"),
            unit=units.Short,
            width=THIRD,
        ),
        graph(
            "Requests to Temporal",
            "Requests per minute.",
            query(f"sum by (operation) (rate(temporal_request_total{RATE})) * 60", "{{operation}}"),
            unit=units.RequestsPerMinute,
            width=THIRD,
        ),
        graph(
            "Requests that failed",
            "Failed requests per minute.",
            query(f"sum by (operation) (rate(temporal_request_failure_total{RATE})) * 60", "{{operation}}"),
            unit=units.RequestsPerMinute,
            width=THIRD,
        ),
        graph(
            "Workflow tasks that failed",
            "Failures per minute. Each means that a run cannot continue, since the code does not match its history.",
            query(
                f"sum by (workflow_type) (rate(temporal_workflow_task_execution_failed_total{RATE})) * 60",
                "{{workflow_type}}",
            ),
            unit=units.CountsPerMinute,
            width=THIRD,
        ),
    ]
