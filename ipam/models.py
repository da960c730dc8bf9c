"""The address types of the contract that `ipam` works with. Orders carry the same types."""

from lastmile.contract.addressing import (
    DEFAULT_VRF,
    LABEL,
    Addressing,
    IPv4Mode,
    IPv6Mode,
    Need,
    Purpose,
    VrfName,
    vrf_words,
)

__all__ = ["DEFAULT_VRF", "LABEL", "Addressing", "IPv4Mode", "IPv6Mode", "Need", "Purpose", "VrfName", "vrf_words"]
