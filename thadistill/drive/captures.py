"""Captures: trackers' packets as they were recorded, to tracked faces over time.

Three kinds of file are read. ``.jsonl`` has a packet per line, ``{"time": seconds, "protocol": "vmc", "packet":
"<base64>"}``, of ``ifacialmocap``, ``vmc`` or ``openseeface``. ``.pcap`` is what ``tcpdump -w`` and Wireshark write ("Save
as .. pcap"): its UDP packets, recognised by their port, or by what reads them. ``.txt`` is iFacialMocap's text, a packet
per line, with or without seconds and a tab before it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from thadistill.drive.protocols import Face, PacketError, VmcReader, parse_ifacialmocap, parse_openseeface
from thadistill.drive.protocols.ifacialmocap import PORT as IFACIALMOCAP_PORT
from thadistill.drive.protocols.openseeface import PORT as OPENSEEFACE_PORT
from thadistill.drive.protocols.vmc import PORT as VMC_PORT
from thadistill.errors import UserError

READ: Final = (".jsonl", ".pcap", ".txt")
_PORTS = {IFACIALMOCAP_PORT: "ifacialmocap", VMC_PORT: "vmc", OPENSEEFACE_PORT: "openseeface"}
_TEXT_FPS = 60.0  # of iFacialMocap, where a text has no times
_MAGIC = {b"\xd4\xc3\xb2\xa1": ("<", 1e-6), b"\xa1\xb2\xc3\xd4": (">", 1e-6)}
_MAGIC |= {b"\x4d\x3c\xb2\xa1": ("<", 1e-9), b"\xa1\xb2\x3c\x4d": (">", 1e-9)}
_LINKS = {0: 4, 1: 14, 101: 0, 108: 4, 113: 16, 228: 0, 229: 0, 276: 20}  # bytes before the IP header, by link type
_UDP = 17


def read_capture(path: Path) -> Iterator[tuple[float, Face]]:
    """The faces in a capture, with their seconds.

    Packets that are of no tracker are passed over.

    Raises: UserError when the file cannot be read, or none of its packets has a face.
    """
    try:
        packets = {".jsonl": _read_lines, ".pcap": _read_pcap, ".txt": _read_text}[path.suffix.lower()](path)
        readers: dict[str, Callable[[bytes], Face | None]] = {
            "ifacialmocap": parse_ifacialmocap,
            "openseeface": parse_openseeface,
            "vmc": VmcReader().take,
        }
        count, first = 0, None
        for seconds, protocol, packet in packets:
            for name in [protocol] if protocol else readers:
                try:
                    face = readers[name](packet)
                except PacketError as error:
                    first = first or error
                    continue
                if face is not None:
                    count += 1
                    yield seconds, face
                break
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); expected a capture") from None
    if not count:
        raise UserError(
            f"{path} holds no face of iFacialMocap, VMC or OpenSeeFace ({first or 'no packet'}); expected a capture"
        )


def _read_lines(path: Path) -> Iterator[tuple[float, str | None, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
                seconds, protocol = float(content["time"]), str(content["protocol"])
                packet = base64.b64decode(content["packet"], validate=True)
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError, binascii.Error) as error:
                raise UserError(
                    f"{path} line {number} does not read ({type(error).__name__}: {error}); expected "
                    '{"time": 0.5, "protocol": "vmc", "packet": "<base64>"}'
                ) from None
            if protocol not in _PORTS.values() or not math.isfinite(seconds):
                raise UserError(
                    f"{path} line {number}: protocol {protocol!r} at {seconds}; expected one of {', '.join(_PORTS.values())}"
                )
            yield seconds, protocol, packet


def _read_text(path: Path) -> Iterator[tuple[float, str | None, bytes]]:
    with path.open("rb") as file:
        row = 0
        for line in file:
            before, tab, packet = line.strip().rpartition(b"\t")
            if not packet:
                continue
            try:
                seconds = float(before) if tab else row / _TEXT_FPS
            except ValueError:
                raise UserError(f"{path}: {before[:40]!r} before a tab; expected seconds") from None
            if not math.isfinite(seconds):
                raise UserError(f"{path}: {before[:40]!r} before a tab; expected seconds")
            row += 1
            yield seconds, "ifacialmocap", packet


def _read_pcap(path: Path) -> Iterator[tuple[float, str | None, bytes]]:
    with path.open("rb") as file:
        head = file.read(24)
        if len(head) < 24 or head[:4] not in _MAGIC:
            raise UserError(f"{path} is no pcap file; expected tcpdump's: save a pcapng as pcap")
        order, tick = _MAGIC[head[:4]]
        (link,) = struct.unpack(order + "I", head[20:])
        if link & 0xFFFF not in _LINKS:
            raise UserError(f"{path} is a capture of link type {link & 0xFFFF}; expected Ethernet, Linux or loopback")
        skip = _LINKS[link & 0xFFFF]
        while len(record := file.read(16)) == 16:
            seconds, fraction, size, _ = struct.unpack(order + "IIII", record)
            if size > 2**18 or len(data := file.read(size)) < size:
                return  # cut short, as by a full disk
            if found := _udp(data[skip:]):
                port, packet = found
                yield seconds + tick * fraction, _PORTS.get(port), packet


def _udp(data: bytes) -> tuple[int, bytes] | None:
    """The port and the content of a whole UDP packet, by its IP header."""
    if len(data) < 28:
        return None
    version = data[0] >> 4
    if version == 4:
        size, kind = 4 * (data[0] & 15), data[9]
        if struct.unpack(">H", data[6:8])[0] & 0x1FFF:  # a later part of one
            return None
    elif version == 6:
        size, kind = 40, data[6]
    else:
        return None
    if kind != _UDP or len(data) < size + 8:
        return None
    port, length = struct.unpack(">HH", data[size + 2 : size + 6])
    return port, data[size + 8 : size + max(length, 8)]
