"""The connection to Temporal: settings, search attributes, worker versions, metrics."""
