"""Pools whose prefixes NetBox chooses, one request for each."""
