"""Use cases that the command line, the activities and the API call alike."""
