"""Who calls the REST API, and what the caller may do."""
