"""The HTTP side of the stand-in: server, API, permissions, latency and faults."""
