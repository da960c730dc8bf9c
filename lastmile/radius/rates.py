"""The rates of a plan as RADIUS attributes."""

__all__ = ["rate_items"]

_LARGEST_INTEGER = 2**32 - 1
"""An integer attribute has 32 bits (RFC 2865 section 5)."""

_WISPR = ("WISPr-Bandwidth-Max-Down", "WISPr-Bandwidth-Max-Up")
_CHILLISPOT = ("ChilliSpot-Bandwidth-Max-Down", "ChilliSpot-Bandwidth-Max-Up")


def rate_items(download_kbps: int, upload_kbps: int) -> list[tuple[str, str]]:
    """Return the reply items, attribute and value, that limit a session to these rates.

    WISPr's attributes hold bit/s and end at 4.29 Gbit/s. A plan with a faster direction uses ChilliSpot's attributes
    in both directions: those hold kbit/s. Both are in FreeRADIUS's stock dictionaries.
    """
    rates = (download_kbps, upload_kbps)
    if max(rates) * 1000 <= _LARGEST_INTEGER:
        return [(name, str(kbps * 1000)) for name, kbps in zip(_WISPR, rates, strict=True)]
    return [(name, str(kbps)) for name, kbps in zip(_CHILLISPOT, rates, strict=True)]
