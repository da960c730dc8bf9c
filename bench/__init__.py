"""Benchmarks: each measurement has a peer that does the bare minimum, measured in the same run."""
