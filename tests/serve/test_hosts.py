"""Whose requests the server answers."""

from __future__ import annotations

import pytest

from thadistill.serve.hosts import is_answered, is_loopback, is_same_origin


@pytest.mark.parametrize("authority", ["127.0.0.1:8420", "localhost:8420", "[::1]:8420", "LOCALHOST"])
def test_loopback_names_are_answered(authority: str) -> None:
    assert is_answered(authority, "127.0.0.1")


@pytest.mark.parametrize(
    "authority", ["evil.example", "localhost.evil.example:80", "192.168.0.9:8420", "", None, "[::1"]
)
def test_other_names_are_not(authority: str | None) -> None:
    assert not is_answered(authority, "127.0.0.1")


def test_a_server_for_other_machines_answers_to_numbers_but_not_to_names() -> None:
    assert is_answered("192.168.0.9:8420", "0.0.0.0")
    assert is_answered("studio.local:8420", "studio.local")
    assert is_answered("studio.local:8420", "Studio.local")  # browsers write names in lower case
    assert not is_answered("rebound.example:8420", "0.0.0.0")


def test_loopback_addresses() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "localhost", "::1", "127.3.2.1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.0.9", "studio.local"]))


def test_origins() -> None:
    assert is_same_origin("http://localhost:8420", "localhost:8420")
    assert not is_same_origin("http://localhost:9999", "localhost:8420")
    assert not is_same_origin("null", "localhost:8420")
    assert not is_same_origin(None, "localhost:8420")
