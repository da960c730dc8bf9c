"""Payloads that Temporal keeps and cannot read, and how those who may see them do."""
