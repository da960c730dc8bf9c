"""The rates of a plan as RADIUS attributes."""

__all__ = ["rate_items"]

_LARGEST_INTEGER = 2**32 - 1
"""An integer attribute has 32 bits (RFC 2865 section 5)."""

_WISPR = ("WISPr-Bandwidth-Max-Down", "WISPr-Bandwidth-Max-Up")
_CHILLISPOT = ("ChilliSpot-Bandwidth-Max-Down", "ChilliSpot-Bandwidth-Max-Up")


def rate_items(download_kbps: int, upload_kbps: int) -> list[tuple[str, str]]:
    """Return the reply items (attribute, value) that limit a session to these rates.

    WISPr's attributes are in bit/s, up to 4.29 Gbit/s. If one direction is faster, both directions use ChilliSpot's
    attributes, which are in kbit/s. FreeRADIUS's stock dictionaries have both.
    """
    rates = (download_kbps, upload_kbps)
    if max(rates) * 1000 <= _LARGEST_INTEGER:
        return [(name, str(kbps * 1000)) for name, kbps in zip(_WISPR, rates, strict=True)]
    return [(name, str(kbps)) for name, kbps in zip(_CHILLISPOT, rates, strict=True)]
