"""Logs, metrics, traces and the readiness of a process."""
