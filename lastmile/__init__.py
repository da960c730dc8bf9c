"""Lastmile: provision, change and end broadband lines, with Temporal."""
