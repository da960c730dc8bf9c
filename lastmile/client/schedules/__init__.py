"""The schedules of the maintenance workflows: their plans, and the Temporal Schedules that workers make of them."""
