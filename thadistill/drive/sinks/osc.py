"""OSC: messages of Open Sound Control 1.0, encoded; what VMC packets are made of."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_NOW = struct.pack(">Q", 1)  # the time tag of a bundle that is for at once


def message(address: str, *arguments: str | float | int) -> bytes:
    """A message. Strings are ASCII or UTF-8, numbers 32 bits: whole ones int32, others float32."""
    tags = "".join("s" if isinstance(a, str) else "i" if isinstance(a, int) else "f" for a in arguments)
    content = [_string(address), _string(f",{tags}")]
    for argument in arguments:
        if isinstance(argument, str):
            content.append(_string(argument))
        else:
            content.append(struct.pack(">i" if isinstance(argument, int) else ">f", argument))
    return b"".join(content)


def bundles(messages: Iterable[bytes], most: int = 1400) -> list[bytes]:
    """Bundles of messages, in order, each of at most ``most`` bytes so that it is one packet of a network."""
    made: list[bytes] = []
    for content in messages:
        part = struct.pack(">i", len(content)) + content
        if made and len(made[-1]) + len(part) <= most:
            made[-1] += part
        else:
            made.append(b"#bundle\0" + _NOW + part)
    return made


def _string(text: str) -> bytes:
    """Ended by a zero, and zeros up to a multiple of four bytes."""
    content = text.encode() + b"\0"
    return content + bytes(-len(content) % 4)
