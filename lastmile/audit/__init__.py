"""Does the platform keep its promise? The invariants, checked with set-based queries, and what is safe to repair."""
