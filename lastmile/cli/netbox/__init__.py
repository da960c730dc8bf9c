"""The commands `lastmile netbox …`."""
