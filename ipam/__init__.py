"""Pools, allocation and the lifecycle of delegated prefixes."""
