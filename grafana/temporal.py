"""The row of the platform's dashboard about Temporal, by the metrics of its SDK."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from grafana.parts import RATE, WIDTH, graph, p95, query

__all__ = ["temporal"]

THIRD = WIDTH // 3


def temporal() -> list[Builder[models.Panel]]:
    """Whether workers keep up, and what becomes of what they ask."""
    return [
        graph(
            "Waiting for a worker",
            "In the queue: 95 of 100 tasks wait no longer. More workers make it shorter.",
            query(p95("temporal_workflow_task_schedule_to_start_latency_seconds"), "workflow tasks"),
            query(p95("temporal_activity_schedule_to_start_latency_seconds"), "activities"),
            unit=units.Seconds,
            width=THIRD,
        ),
        graph(
            "Free slots",
            "Of all workers: at 0 they are full.",
            query("sum by (worker_type) (temporal_worker_task_slots_available)", "{{worker_type}}"),
            unit=units.Short,
            width=THIRD,
        ),
        graph(
            "Runs in memory",
            "Of all workers.",
            query("sum(temporal_sticky_cache_size)", "runs"),
            unit=units.Short,
            width=THIRD,
        ),
        graph(
            "Requests to Temporal",
            "A minute.",
            query(f"sum by (operation) (rate(temporal_request_total{RATE})) * 60", "{{operation}}"),
            unit=units.RequestsPerMinute,
            width=THIRD,
        ),
        graph(
            "Requests that failed",
            "A minute.",
            query(f"sum by (operation) (rate(temporal_request_failure_total{RATE})) * 60", "{{operation}}"),
            unit=units.RequestsPerMinute,
            width=THIRD,
        ),
        graph(
            "Workflow tasks that failed",
            "Any: a run that cannot go on, because its code does not fit its history.",
            query(
                f"sum by (workflow_type) (rate(temporal_workflow_task_execution_failed_total{RATE})) * 60",
                "{{workflow_type}}",
            ),
            unit=units.CountsPerMinute,
            width=THIRD,
        ),
    ]
