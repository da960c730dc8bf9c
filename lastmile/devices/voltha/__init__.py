"""The driver of VOLTHA: ONUs behind OLTs that VOLTHA's core controls. It needs the extra `voltha`."""
