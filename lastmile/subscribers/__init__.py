"""The records of customers, subscribers, network profiles, billing services and orders, and their rules."""
