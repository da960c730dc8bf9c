"""Benchmarks: every figure next to a peer that does the bare minimum, measured in the same run."""
