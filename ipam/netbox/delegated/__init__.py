"""Pools that take whole blocks from NetBox and assign from them in the database."""
