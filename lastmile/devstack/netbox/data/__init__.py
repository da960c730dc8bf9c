"""The objects of the stand-in: store, writes, filters, lists and the allocation of prefixes."""
