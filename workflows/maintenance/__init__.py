"""The scheduled workflows that maintain the platform."""
