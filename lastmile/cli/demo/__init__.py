"""The commands `lastmile up` and `lastmile demo`."""
