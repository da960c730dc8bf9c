"""The audit: set-based queries that check the invariants, safe repairs, acknowledgements and history."""
