"""What the database knows of all: computed by one, stored, and shown by every worker alike."""
