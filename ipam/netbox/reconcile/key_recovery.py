"""Records of ours in NetBox that have lost their key: somebody has deleted the custom field, and it was made again.

NetBox never gives an id a second time, so what is at an id that we have noted was ours once. It still is where it is
the very prefix, in its VRF, with our tag, and names nobody else: who makes a record over takes the tag off it, or
changes it. Such a record is stamped again. What carries no key is never deleted: a stamp can be taken back.
"""

from ipam.allocation_key import AllocationKey
from ipam.netbox import NetBoxRecord
from ipam.netbox.records import TAG
from ipam.prefix import Prefix

__all__ = ["BLOCK_KEYS", "lost_its_key"]

BLOCK_KEYS = "lastmile/block/"
"""What the keys of blocks begin with; the others, with tenant and subscriber."""


def lost_its_key(record: NetBoxRecord, key: str, prefix: Prefix | None, vrf_id: int | None) -> bool:
    """Whether this record, at the id that was noted for this key and prefix, is ours without its key.

    Also with all fields of ours gone.
    """
    if record.key is not None or TAG not in record.tags or (record.prefix, record.vrf_id) != (prefix, vrf_id):
        return False
    if key.startswith(BLOCK_KEYS):
        return record.status == "container" and record.subscriber_ref is None
    subscriber_ref = AllocationKey.parse(key).subscriber_ref
    return record.status != "container" and record.subscriber_ref in (None, subscriber_ref)
