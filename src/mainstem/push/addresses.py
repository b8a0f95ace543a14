"""Which addresses may be pushed to.

Owns: the setting `push_allow`, and the addresses that are never allowed: link-local ones, those where cloud
machines serve their credentials, and those that are no address of a single machine. Refuses: names; each
connection asks for the address that it is about to connect to, so that a name whose address changes after a
check opens nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

NAMED_NETWORKS: dict[str, tuple[str, ...]] = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
}
"""What these words of `push_allow` mean. `public` is what belongs to neither and is global."""
METADATA_ADDRESSES = frozenset(
    map(
        ipaddress.ip_address,
        (
            *("169.254.169.254", "fd00:ec2::254", "fd20:ce::254"),  # AWS, Google, Azure
            *("168.63.129.16", "100.100.100.200", "192.0.0.192"),  # Azure, Alibaba, Oracle
        ),
    )
)
"""Where cloud machines serve metadata and credentials to any process that asks."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PUBLIC_IPV6 = (ipaddress.ip_network("2000::/3"), _NAT64)
"""Other IPv6 addresses may lead to IPv4 addresses by ways that are not known here, such as the NAT64 of a
site (RFC 8215) and SIIT (RFC 7915)."""


class AllowError(ValueError):
    """The error for a value of `push_allow` that cannot be read. The message is for people."""


@dataclass(frozen=True, slots=True)
class AllowedAddresses:
    """The addresses that may be pushed to."""

    networks: tuple[IpNetwork, ...]
    public: bool = False

    @classmethod
    def parse(cls, text: str) -> AllowedAddresses:
        """Read `push_allow`: words and networks with commas. AllowError."""
        networks: list[IpNetwork] = []
        public = False
        for word in filter(None, (part.strip().lower() for part in text.split(","))):
            if word == "public":
                public = True
                continue
            try:
                networks += map(ipaddress.ip_network, NAMED_NETWORKS.get(word, (word,)))
            except ValueError:
                raise AllowError(
                    f"push_allow: {word!r} is neither loopback, private, public nor a network such as"
                    " 10.1.0.0/16"
                ) from None
        return cls(tuple(networks), public)

    def problem(self, text: str) -> str | None:
        """Why the address must not be connected to, for people; None: it may."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return f"{text[:100]!r} is no address"
        for meant in _meant(address):
            if meant.is_link_local or meant in METADATA_ADDRESSES:
                return f"{text} is link-local or serves a machine's credentials, and is never allowed"
            if meant.is_multicast or meant.is_unspecified or _is_reserved(meant):
                return f"{text} is no address of a machine"
            if not self._lists(meant):
                return f"{text} is not allowed by the setting push_allow"
        return None

    def _lists(self, address: IpAddress) -> bool:
        if any(address in network for network in self.networks if network.version == address.version):
            return True
        if not self.public or not address.is_global:
            return False
        return address.version == 4 or any(address in network for network in _PUBLIC_IPV6)


def _is_reserved(address: IpAddress) -> bool:
    """Of IPv4 addresses 0.0.0.0/8, which means this machine, and 240.0.0.0/4."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_reserved or int(address) < 1 << 24
    return False


def _meant(address: IpAddress) -> Iterator[IpAddress]:
    """The address, and the IPv4 address that an IPv6 address leads to by NAT64, 6to4 or Teredo; of one that
    only maps an IPv4 address, that one alone."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    if address.scope_id is not None:
        address = ipaddress.IPv6Address(int(address))
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if 1 < int(address) < 1 << 32:  # IPv4-compatible: deprecated, and the same address to some systems
        yield low
    if address in _NAT64:
        yield low
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    yield address
