"""The activities of the scheduled workflows."""
