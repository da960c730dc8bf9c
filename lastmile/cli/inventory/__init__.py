"""The commands on tenants, pools and access servers."""
