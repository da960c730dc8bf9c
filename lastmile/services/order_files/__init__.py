"""Read orders from CSV and JSON files of any size, strictly."""
