# SPDX-License-Identifier: Apache-2.0
"""Which IP addresses can be somebody's: those that no registry reserves.

The reserved networks are IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890)
as of 2025, and multicast. Python's own `is_global` follows other editions of them from
one patch release to the next, and the same text must always give the same bytes.
"""

import ipaddress

_RESERVED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared, behind carriers' translators
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_RESERVED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001:2::/48",  # benchmarks
        "2001:10::/28",  # hash identifiers (ORCHID)
        "2001:20::/28",  # hash identifiers (ORCHIDv2)
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)


def is_public_v4(spelled: str) -> bool:
    """Tells whether a dotted address is one, and public."""
    try:
        address = ipaddress.IPv4Address(spelled)
    except ValueError:
        return False
    return not any(address in network for network in _RESERVED_V4)


def is_public_v6(spelled: str) -> bool:
    """Tells whether an address of colons is one, and public."""
    try:
        address = ipaddress.IPv6Address(spelled)
    except ValueError:
        return False
    return address in _GLOBAL_V6 and not any(
        address in network for network in _RESERVED_V6
    )
