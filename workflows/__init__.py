"""What happens to a subscriber, and in which order. Deterministic; no I/O."""
