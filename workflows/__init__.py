"""The workflows of orders and of maintenance. Deterministic: no client, no I/O."""
