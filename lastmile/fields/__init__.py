"""Strict types for the fields of orders and settings: text, numbers, times and device ids. No type guesses a value."""
