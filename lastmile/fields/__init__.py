"""Types of the fields that people and programs fill in: text, numbers, times and device ids, none of them guessed."""
