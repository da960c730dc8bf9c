"""The import of files of orders: many orders at once, and the report of their outcomes."""
