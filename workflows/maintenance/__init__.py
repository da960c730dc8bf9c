"""The workflows of the scheduled maintenance."""
