"""Recover records that have lost their key, because the custom field was deleted in NetBox and created again.

NetBox never uses an id twice, so a record at an id that the database has noted was ours once. The record is still ours
where it has the same prefix and VRF, has our tag, and names no other subscriber. Such a record is stamped again. A
record without a key is never deleted, since a wrong stamp can be undone and a deletion cannot.
"""

from ipam.allocation_key import AllocationKey
from ipam.netbox import NetBoxRecord
from ipam.netbox.records import TAG
from ipam.prefix import Prefix

__all__ = ["BLOCK_KEYS", "lost_its_key"]

BLOCK_KEYS = "lastmile/block/"
"""What the keys of blocks begin with. Other keys begin with tenant and subscriber (`ipam.allocation_key`)."""


def lost_its_key(record: NetBoxRecord, key: str, prefix: Prefix | None, vrf_id: int | None) -> bool:
    """Return whether this record, at the id that was noted for this key and prefix, is ours and has lost its key.

    It may have lost all of Lastmile's fields.
    """
    if record.key is not None or TAG not in record.tags or (record.prefix, record.vrf_id) != (prefix, vrf_id):
        return False
    if key.startswith(BLOCK_KEYS):
        return record.status == "container" and record.subscriber_ref is None
    subscriber_ref = AllocationKey.parse(key).subscriber_ref
    return record.status != "container" and record.subscriber_ref in (None, subscriber_ref)
