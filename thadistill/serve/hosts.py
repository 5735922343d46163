"""Hosts: which Host and Origin headers a server of this machine answers, so that no other page can speak to it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is only reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_any(host: str) -> bool:
    """Whether an address to listen on stands for all of this machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_answered(authority: str | None, host: str) -> bool:
    """Whether a request's Host header names this server.

    A page elsewhere may point a name of its own at this machine (DNS rebinding); the header then has that name. An
    address in numbers cannot be pointed elsewhere.

    Args:
        authority: the header, such as ``localhost:8420``.
        host: what the server listens on; another than loopback also answers to addresses in numbers.
    """
    try:
        name = urlsplit(f"//{authority or ''}").hostname
    except ValueError:
        return False
    if name is None:
        return False
    if name in _LOOPBACK_NAMES or name == host.lower():  # urlsplit gives lower case
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return not is_loopback(host)


def is_same_origin(origin: str | None, authority: str | None) -> bool:
    """Whether a WebSocket is opened by a page of this server: browsers say which page asks, and let any page ask."""
    return origin is not None and origin in (f"http://{authority}", f"https://{authority}")
