"""The commands that operate the platform: audit, cleanup, schedules, migrations."""
