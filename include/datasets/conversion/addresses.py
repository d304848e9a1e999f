"""Decides from which web hosts images may be fetched, according to an allow-list.

Without the list, anyone who may start a training run could make a worker send requests to any host, even to
one in the worker's own network.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from include.limits import URL_BYTES

SETTING = "DATASET_URL_HOSTS"
_PORT = 443
_HOST = r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?"
_CONTENT_HASH = re.compile(r"[0-9a-fA-F]{32}")
_SIGNATURE = re.compile(
    r"x-(amz|goog)-.*|signature|expires|policy|key-pair-id|hash-algorithm|awsaccesskeyid|googleaccessid"
    r"|sig|s[etpvr]|spr|sip|ss|srt|sdd|ses|sk(oid|tid|[tesv])|saoid|suoid|scid",
    re.IGNORECASE,
)
"""Names of the query parameters with which S3, CloudFront, Google and Azure sign URLs. Any other parameter
may select the content."""
_PUBLIC = ipaddress.ip_network("2000::/3")
"""All IPv6 addresses that are assigned to the public internet. Python's `is_global` is true for many more."""
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that a router translates to the IPv4 address in their last 32 bits (RFC 6052)."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Address:
    """Host and port of a URL."""

    host: str
    """In lower case; IPv6 addresses have no brackets."""
    port: int
    """443 if the URL contains no port."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORT else f"{host}:{self.port}"


def parse_address(url: str) -> Address:
    """Return the host and port of a URL. Raises ValueError unless it is a plain https:// URL.

    The URL is parsed with urllib3, which also sends the requests: a different parser could see a different
    host.
    """
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    if len(url) > URL_BYTES:
        raise ValueError(f"a URL exceeds the limit of {URL_BYTES:,} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("a URL contains a character that is not allowed in URLs; percent-encode it")
    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise ValueError("a URL is not valid") from None
    host = (parsed.host or "").strip("[]").rstrip(".").lower()
    if parsed.scheme != "https" or not host:
        raise ValueError("a URL is not an https:// address; export the dataset with https:// addresses")
    if parsed.auth is not None:
        raise ValueError("a URL contains a user or a password; remove it")
    return Address(host, parsed.port or _PORT)


def without_query(url: str) -> str:
    """Return the URL without its query, for messages: the query may contain a secret signature."""
    return re.split(r"[?#]", url, maxsplit=1)[0]


def strip_signature(url: str) -> str:
    """Return an identifier of the content at a URL of Ultralytics Platform: the URL without its signature.

    Platform names each file by a hash of its content, and signs the URLs again for each export. If a file's
    name is not a hash, its URL is returned unchanged. Do not call this for other exports: they may name
    files by UUIDs, which look like hashes.
    """
    path, _, query = url.partition("#")[0].partition("?")
    if not _CONTENT_HASH.fullmatch(PurePosixPath(path).stem):
        return url
    kept = [part for part in query.split("&") if not _SIGNATURE.fullmatch(part.partition("=")[0])]
    return "?".join(filter(None, (path, "&".join(kept))))


@dataclass(frozen=True)
class AllowedHosts:
    """The hosts from which images may be fetched."""

    hosts: frozenset[str] = frozenset()
    """Names, with a port unless it is 443; '.example.com' means all its subdomains."""
    networks: tuple[Network, ...] = ()
    """The private networks in which these hosts may be. A URL may also contain an address in one of these
    networks instead of a host name."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the setting: names, addresses and networks, separated by commas. Raises ValueError."""
        hosts, networks = set[str](), list[Network]()
        for entry in filter(None, (part.strip().lower() for part in text.split(","))):
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError:
                name = entry.removeprefix("*")
                if not re.fullmatch(rf"\.?{_HOST}(:[0-9]{{1,5}})?", name):
                    raise ValueError(
                        f"{SETTING} contains {entry!r}; give host names (images.example.com, with :port "
                        "unless it is 443; *.example.com for its subdomains), and addresses or networks of "
                        "private hosts (10.1.0.0/16), separated by commas"
                    ) from None
                hosts.add(name.removesuffix(f":{_PORT}"))
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, address: Address) -> bool:
        """Return whether requests may be sent to this host; `allows_peer` must also accept its IP address."""
        name = str(address)
        if name in self.hosts or any(host[0] == "." and name.endswith(host) for host in self.hosts):
            return True
        try:
            literal = ipaddress.ip_address(address.host)
        except ValueError:
            return False
        return address.port == _PORT and any(literal in network for network in self.networks)

    def allows_peer(self, peer: str) -> bool:
        """Return whether connections to this IP address are allowed: it is public, or in a listed network."""
        found = _unwrap_ipv4(ipaddress.ip_address(peer.partition("%")[0]))
        if any(found in network for network in self.networks):
            return True
        if isinstance(found, ipaddress.IPv6Address) and found not in _PUBLIC:
            return False
        return found.is_global and not found.is_multicast


def _unwrap_ipv4(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 address represents; return any other address unchanged."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
