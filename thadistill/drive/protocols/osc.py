"""OSC 1.0: packets to messages, with bounds on all that a packet can claim, and messages to packets.

The parser is not python-osc's (1.10.2), because a packet from the network must not end or stop a stream: there, bundles
within bundles raise RecursionError, text that is not UTF-8 UnicodeDecodeError, and an element of -4 bytes never ends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from thadistill.drive.protocols.face import PacketError

LONGEST: Final = 65536  # bytes: a UDP datagram has no more
_DEEPEST = 4  # bundles within each other
_MOST_MESSAGES = 4096
_MOST_ARGUMENTS = 64
_BUNDLE = b"#bundle\0"
_NOW = struct.pack(">Q", 1)  # the time tag of a bundle to take at once
_FIXED = {"i": ">i", "f": ">f", "h": ">q", "d": ">d", "t": ">Q", "c": ">4s", "r": ">4s", "m": ">4s"}
_BARE = {"T": True, "F": False, "N": None, "I": None}

Argument = str | int | float | bytes | bool | None


class Message(NamedTuple):
    """An address and what came with it."""

    address: str
    arguments: tuple[Argument, ...]


def parse_osc(packet: bytes) -> list[Message]:
    """The messages of a packet in order, those of its bundles included; time tags are not waited for.

    Raises: PacketError when the packet is not OSC, is cut short, or nests or holds more than any tracker sends.
    """
    if len(packet) > LONGEST:
        raise PacketError(f"a packet of {len(packet)} bytes; expected OSC, of {LONGEST} at most")
    messages: list[Message] = []
    _read(packet, 0, messages)
    return messages


def _read(data: bytes, depth: int, messages: list[Message]) -> None:
    if not data.startswith(_BUNDLE):
        if len(messages) >= _MOST_MESSAGES:
            raise PacketError(f"a packet of more than {_MOST_MESSAGES} messages; expected fewer")
        messages.append(_message(data))
        return
    if depth >= _DEEPEST:
        raise PacketError(f"a bundle {depth + 1} deep; expected {_DEEPEST} at most")
    place = len(_BUNDLE) + 8  # a time tag
    if len(data) < place:
        raise PacketError(f"an OSC bundle of {len(data)} bytes; expected a time tag")
    while place < len(data):
        if len(data) < place + 4:
            raise PacketError("an OSC bundle that is cut short; expected the size of an element")
        (size,) = struct.unpack_from(">i", data, place)
        if size <= 0 or size % 4 or place + 4 + size > len(data):
            raise PacketError(f"an element of {size} bytes in an OSC bundle of {len(data)}; expected one that fits")
        _read(data[place + 4 : place + 4 + size], depth + 1, messages)
        place += 4 + size


def _message(data: bytes) -> Message:
    address, place = _text(data, 0)
    if not address.startswith("/"):
        raise PacketError(f"OSC address {address[:40]!r}; expected one that begins with /")
    if place == len(data):  # older senders leave out an empty list of types
        return Message(address, ())
    types, place = _text(data, place)
    if not types.startswith(","):
        raise PacketError(f"OSC types {types[:40]!r} of {address[:40]}; expected them after a comma")
    if len(types) - 1 > _MOST_ARGUMENTS:
        raise PacketError(f"{len(types) - 1} arguments of {address[:40]}; expected {_MOST_ARGUMENTS} at most")
    arguments: list[Argument] = []
    for kind in types[1:]:
        value, place = _argument(data, place, kind)
        arguments.append(value)
    return Message(address, tuple(arguments))


def _argument(data: bytes, place: int, kind: str) -> tuple[Argument, int]:
    if kind in _BARE:
        return _BARE[kind], place
    if kind in "sS":
        return _text(data, place)
    if kind == "b":
        (size,) = _unpack(">i", data, place)
        if size < 0 or place + 4 + size > len(data):
            raise PacketError(f"an OSC blob of {size} bytes in a packet of {len(data)}; expected one that fits")
        return data[place + 4 : place + 4 + size], place + 4 + -(-size // 4) * 4
    if kind not in _FIXED:
        raise PacketError(f"OSC type {kind!r}; expected one of i f s b h d t c r m T F N I")
    (value,) = _unpack(_FIXED[kind], data, place)
    return value, place + struct.calcsize(_FIXED[kind])


def _unpack(form: str, data: bytes, place: int) -> tuple[Any, ...]:
    if len(data) < place + struct.calcsize(form):
        raise PacketError("an OSC message that is cut short; expected an argument for each of its types")
    return struct.unpack_from(form, data, place)


def _text(data: bytes, place: int) -> tuple[str, int]:
    """A string that ends in zeros up to the next multiple of four, and the place after it."""
    end = data.find(b"\0", place)
    if end < 0:
        raise PacketError("an OSC message that is cut short; expected a string's end")
    try:
        return data[place:end].decode(), end + 4 - (end - place) % 4
    except UnicodeDecodeError:
        raise PacketError("an OSC string that is no text; expected UTF-8") from None


def pack_message(address: str, *arguments: str | float | int) -> bytes:
    """A message. Strings are UTF-8, numbers 32 bits: whole ones int32, others float32."""
    tags = "".join("s" if isinstance(a, str) else "i" if isinstance(a, int) else "f" for a in arguments)
    content = [_pack_text(address), _pack_text(f",{tags}")]
    for argument in arguments:
        if isinstance(argument, str):
            content.append(_pack_text(argument))
        else:
            content.append(struct.pack(">i" if isinstance(argument, int) else ">f", argument))
    return b"".join(content)


def pack_bundles(messages: Iterable[bytes], most: int = 1400) -> list[bytes]:
    """Bundles of messages, in order, each of at most ``most`` bytes so that it is one packet of a network."""
    made: list[bytes] = []
    for content in messages:
        part = struct.pack(">i", len(content)) + content
        if made and len(made[-1]) + len(part) <= most:
            made[-1] += part
        else:
            made.append(_BUNDLE + _NOW + part)
    return made


def _pack_text(text: str) -> bytes:
    """Ended by a zero, and zeros up to a multiple of four bytes."""
    content = text.encode() + b"\0"
    return content + bytes(-len(content) % 4)
