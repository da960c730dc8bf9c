"""The records that the API reads: one record, and lists by pages."""
