"""The peer of an order: a workflow with nine no-op activities in sequence."""

from datetime import timedelta

from temporalio import activity, workflow

__all__ = ["Noop", "nothing"]


@activity.defn
async def nothing(word: str) -> str:
    return word


@workflow.defn
class Noop:
    @workflow.run
    async def run(self, word: str) -> str:
        for step in range(9):
            word = await workflow.execute_activity(
                nothing, word, activity_id=f"step-{step}", start_to_close_timeout=timedelta(seconds=10)
            )
        return word
