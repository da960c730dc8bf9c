"""Change how a pool is kept in NetBox."""
