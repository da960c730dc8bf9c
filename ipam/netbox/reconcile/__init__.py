"""Compare NetBox with the database, and repair the differences."""
