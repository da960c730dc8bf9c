"""Customers, subscribers, network profiles, billing services and orders: records and their rules."""
