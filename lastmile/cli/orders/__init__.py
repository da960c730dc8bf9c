"""The commands on orders and subscribers."""
