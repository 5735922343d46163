"""Formats: NumPy files, PNGs and ZIPs spoiled by their structure, by number; see mutants.py."""

from __future__ import annotations

import ast
import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from mutants import BOMB, CODE, PATHS, Mutant, pick, spoil_bytes

_DTYPES = (
    "|O",
    "<f2",
    "<f8",
    ">f4",
    "<c8",
    "<i4",
    "<u8",
    "|b1",
    "|V180",
    "<U45",
    "|S4",
    "<M8[s]",
    [("a", "<f4")],
    "x",
    "<f999",
)
_SHAPES = ((), (45,), (10**12, 45), (-1, 45), (2**63, 45), (0, 45), (1, 45, 1), (45, 4), (3, 44), (10**9,), (1,) * 70)


def spoil_npy(data: bytes, generator: np.random.Generator) -> Mutant:
    """A NumPy file's header, or values in it that are not finite or huge; or several arrays in a ZIP."""
    size = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10 : 10 + size].decode())
    body, kind = bytearray(data[10 + size :]), int(generator.integers(8))
    if kind <= 1:
        header["shape"] = pick(generator, _SHAPES)
    elif kind == 2:
        header["descr"] = pick(generator, _DTYPES)
    elif kind == 3:
        header["fortran_order"] = pick(generator, (True, 1, "x"))
    elif kind == 4:
        del header[pick(generator, [*header])]
    elif kind == 5 and len(body) >= 8:
        place = 4 * int(generator.integers(len(body) // 4))
        body[place : place + 4] = struct.pack("<f", pick(generator, (np.nan, np.inf, -np.inf, 3e38, -7.0, 2.0)))
    elif kind == 6:
        packed = io.BytesIO()
        np.savez_compressed(packed, a=np.zeros((3, 45)), b=np.zeros(9))
        return Mutant(packed.getvalue())
    text = pick(generator, ("(" * 9000, "[" * 9000, "{}", "None", "x" * 65000)) if kind == 7 else repr(header)
    encoded = text.encode() + b"\n"
    return Mutant(data[:8] + struct.pack("<H", len(encoded) & 0xFFFF) + encoded + bytes(body))


def spoil_png(data: bytes, generator: np.random.Generator) -> Mutant:
    """A PNG's chunks, each with its checksum: another size, depth or type, bombs, chunks added or in another order."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append([data[place + 4 : place + 8], data[place + 8 : place + 8 + length]])
        place += length + 12
    kind, index = int(generator.integers(8)), int(generator.integers(len(chunks)))
    if kind <= 2:  # the header
        fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        fields[int(generator.integers(7))] = int(pick(generator, (0, 1, 3, 4, 7, 16, 200)))
        if kind == 2:
            fields[:2] = pick(
                generator, ((20_000, 20_000), (2**31 - 1, 1), (1, 2**31 - 1), (100_000, 3), (512, 0), (9999, 9999))
            )
        chunks[0][1] = struct.pack(">IIBBBBB", *fields)
    elif kind == 3:
        chunks[index][1] = spoil_bytes(chunks[index][1], generator).content
    elif kind == 4:
        chunks.insert(
            index,
            [pick(generator, (b"tRNS", b"PLTE", b"acTL", b"IDAT", b"IEND", b"xxxx", b"fcTL")), generator.bytes(20)],
        )
    elif kind == 5:
        chunks.insert(1, [pick(generator, (b"iCCP", b"zTXt", b"iTXt")), b"a\0\0" + BOMB])
    elif kind == 6:
        chunks.insert(
            1,
            [
                b"eXIf",
                spoil_bytes(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", generator).content,
            ],
        )
    else:
        chunks[index], chunks[0] = chunks[0], chunks[index]
    made = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return Mutant(data[:8] + made)


def spoil_zip(data: bytes, generator: np.random.Generator, inner: Callable[[bytes], Mutant] | None = None) -> Mutant:
    """A ZIP's entries: one spoiled by ``inner``, packed, swollen, doubled, gone, or under a name out of the folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name, kind, refuse = pick(generator, [*entries]), int(generator.integers(7)), False
    packed = zipfile.ZIP_STORED
    if kind <= 1:
        spoiled = (inner or (lambda content: spoil_bytes(content, generator)))(entries[name])
        entries[name], refuse = spoiled.content, spoiled.refuse and name.endswith((".pkl", ".pt"))
    elif kind == 2:
        packed = pick(generator, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    elif kind == 3:
        entries[name] = bytes(int(pick(generator, (*[1 << 18] * 15, 32 << 20))))
        packed = zipfile.ZIP_DEFLATED
    elif kind == 4:
        del entries[name]
    elif kind == 5:
        entries[pick(generator, PATHS).format(name).replace("\0", "")] = entries.pop(name)
    else:
        entries[name] = CODE
        refuse = name.endswith(".pkl")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as archive:
        for key, content in entries.items():
            archive.writestr(key, content)
    return Mutant(file.getvalue(), refuse)
