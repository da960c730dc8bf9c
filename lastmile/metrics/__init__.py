"""The metrics snapshot: values computed once from the database. Every worker shows the same values."""
