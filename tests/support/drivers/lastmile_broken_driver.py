"""A driver whose module fails when it is imported."""

raise RuntimeError("hush: a secret of the driver")
