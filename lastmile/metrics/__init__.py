"""The metrics snapshot: values computed once from the database, and shown by every worker alike."""
