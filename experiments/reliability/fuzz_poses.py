"""Poses: the loaders of poses, tracks, captures, sound, pictures, triples and segmenters."""

from __future__ import annotations

import base64
import io
import itertools
import json
import struct
import tarfile
import wave
from pathlib import Path
from typing import Any

import formats
import mutants
import numpy as np
from fuzz_models import character_png, spoil_state
from loaders import Files, Loader, hold, hold_finite, saved
from mutants import Mutant, pick, spoil_bytes
from PIL import Image
from torch import Tensor

from thadistill.data.character import from_folder
from thadistill.data.poses import load_poses, sample_poses
from thadistill.data.segmenter import segment
from thadistill.data.triples import TarTriples
from thadistill.drive.names import BLENDSHAPES
from thadistill.drive.sound import read_samples
from thadistill.drive.track import read_track
from thadistill.images.picture import read_picture
from thadistill.pose import POSE_PARAMETERS

POSES = sample_poses(3, 0)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _pose_files() -> Files:
    names = ",".join(POSE_PARAMETERS)
    rows = "\n".join(",".join(f"{value:.4f}" for value in pose) for pose in POSES.tolist())
    return {"a.npy": _npy(POSES.numpy()), "b.pt": saved(POSES), "c.csv": f"{names}\n{rows}\n".encode()}


def _spoil_poses(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if generator.random() < 0.25:
        return spoil_bytes(data, generator)
    if name.endswith(".npy"):
        return formats.spoil_npy(data, generator)
    return (
        mutants.spoil_table(data.decode(), generator) if name.endswith(".csv") else spoil_state(name, data, generator)
    )


def _hold_poses(poses: Tensor) -> None:
    hold(poses.ndim == 2 and poses.shape[1] == 45 and len(poses) > 0, f"poses of shape {tuple(poses.shape)}")
    hold(bool((poses == POSE_PARAMETERS.clamp(poses)).all()), "a pose out of its range")


def _read_poses(folder: Path) -> None:
    for path in folder.iterdir():
        _hold_poses(load_poses(path))


def _read_track(folder: Path) -> None:
    for path in folder.iterdir():
        track = read_track(path)
        hold(bool(np.isfinite(track.times).all()), "times that are not finite")
        _hold_poses(track.poses)
        _hold_poses(track.at(1.0))


def _track_files() -> Files:
    pose = dict(zip(POSE_PARAMETERS, POSES[0].tolist(), strict=True))
    timed = [{"time": 0.1 * i, "pose": POSES[i].tolist()} for i in range(2)]
    return {
        "a.json": json.dumps({"fps": 20, "poses": [{"head_x": 0.5}, pose]}).encode(),
        "b.json": json.dumps(timed).encode(),
    }


def _spoil_track(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    return spoil_bytes(data, generator) if generator.random() < 0.2 else mutants.spoil_json(json.loads(data), generator)


def _osc(address: str, *arguments: str | float) -> bytes:
    texts = [address, "," + "".join("s" if isinstance(one, str) else "f" for one in arguments)]
    made = b"".join(text.encode() + bytes(4 - len(text.encode()) % 4) for text in texts)
    for one in arguments:
        made += one.encode() + bytes(4 - len(one) % 4) if isinstance(one, str) else struct.pack(">f", one)
    return made


def _packets() -> list[tuple[str, int, bytes]]:
    parts = "|".join(f"{name}&{10 + index}" for index, name in enumerate(BLENDSHAPES[:8]))
    blend = _osc("/VMC/Ext/Blend/Val", "jawOpen", 0.5), _osc("/VMC/Ext/Blend/Apply")
    return [
        ("ifacialmocap", 49983, f"{parts}|=head#1,2,3,0,0,0|".encode()),
        ("vmc", 39539, b"#bundle\0" + bytes(8) + b"".join(struct.pack(">i", len(one)) + one for one in blend)),
        ("openseeface", 11573, struct.pack("<di4fBf4f", 1.0, 0, 640, 360, 1, 1, 1, 0.1, 0, 0, 0, 1) + bytes(1724)),
    ]


def _capture_files() -> Files:
    lines, pcap, text = [], struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1), b""
    for second, (name, port, packet) in enumerate(_packets()):
        line = {"time": 0.1 * second, "protocol": name, "packet": base64.b64encode(packet).decode()}
        lines.append(json.dumps(line))
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, 28 + len(packet), 0, 0, 64, 17, 0, 1, 2)
        frame = bytes(12) + b"\x08\0" + ip + struct.pack(">HHHH", 5, port, 8 + len(packet), 0) + packet
        pcap += struct.pack("<IIII", second, 0, len(frame), len(frame)) + frame
        text += f"{0.1 * second}\t".encode() + _packets()[0][2] + b"\n"
    return {"a.jsonl": "\n".join(lines).encode(), "b.pcap": pcap, "c.txt": text}


def _spoil_capture(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if not name.endswith(".jsonl") or generator.random() < 0.3:
        return spoil_bytes(data, generator)
    lines = data.splitlines()
    number = int(generator.integers(len(lines)))
    lines[number] = mutants.spoil_json(json.loads(lines[number]), generator).content
    return Mutant(b"\n".join(lines))


def _live_link_files() -> Files:
    names = [f"{name[0].upper()}{name[1:]}" for name in BLENDSHAPES]
    rows = [[f"10:00:0{second}:05.5", "61", *["0.2"] * len(names), "0.1", "0.2", "0.3"] for second in range(3)]
    header = ["Timecode", "BlendShapeCount", *names, "HeadYaw", "HeadPitch", "HeadRoll"]
    return {"take.csv": "\n".join(",".join(row) for row in [header, *rows]).encode()}


def spoil_csv(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    return spoil_bytes(data, generator) if generator.random() < 0.25 else mutants.spoil_table(data.decode(), generator)


def _sound_files() -> Files:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes((np.sin(np.arange(800) / 6) * 9000).astype("<i2").tobytes())
    return {"a.wav": file.getvalue()}


def _read_sound(folder: Path) -> None:
    pieces = list(itertools.islice(read_samples(folder / "a.wav"), 1000))
    hold(all(piece.ndim == 1 for piece in pieces), "samples of another form")


# pictures

_FORMATS = {
    "PNG": "RGBA",
    "JPEG": "RGB",
    "WEBP": "RGBA",
    "GIF": "P",
    "TIFF": "RGBA",
    "BMP": "RGB",
    "TGA": "RGBA",
    "ICO": "RGBA",
}


def _picture_files() -> Files:
    made = {}
    for form, mode in _FORMATS.items():
        file = io.BytesIO()
        with Image.open(io.BytesIO(character_png())) as picture:
            picture.resize((24, 20)).convert(mode).save(file, form)
        made[f"a.{form.lower()}"] = file.getvalue()
    return made


def _spoil_picture(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    png = name.endswith(".png") and generator.random() < 0.6
    return formats.spoil_png(data, generator) if png else spoil_bytes(data, generator)


def _read_picture(folder: Path) -> Any:
    (path,) = folder.iterdir()
    picture = read_picture(path, most=640)
    hold(picture.image.mode == "RGBA" and max(picture.image.size) <= 640, "a picture of another form")
    return picture.image.tobytes() if path.suffix == ".png" else None


def _character_files() -> Files:
    file = io.BytesIO()
    Image.new("L", (512, 512), 255).save(file, "PNG")
    return {"character.png": character_png(), "face_mask.png": file.getvalue()}


def _read_character(folder: Path) -> Any:
    found = from_folder(folder)
    assert found.face_mask is not None
    hold(0 <= float(found.face_mask.min()) <= float(found.face_mask.max()) <= 1, "a mask out of its range")
    hold(float(found.image.abs().max()) <= 1, "a picture out of its range")
    return found.image.numpy().tobytes(), found.face_mask.numpy().tobytes()


def _triple_files() -> Files:
    file, picture = io.BytesIO(), io.BytesIO()
    with Image.open(io.BytesIO(character_png())) as whole:
        whole.resize((16, 16)).save(picture, "PNG")
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in (
            ("rest.png", picture.getvalue()),
            ("pose.npy", _npy(POSES[0].numpy())),
            ("png", picture.getvalue()),
        ):
            entry = tarfile.TarInfo(f"a.{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return {"a.tar": file.getvalue()}


def _spoil_tar(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if generator.random() < 0.5:
        return spoil_bytes(data, generator)
    file = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as given, tarfile.open(fileobj=file, mode="w") as archive:
        chosen = pick(generator, given.getmembers())
        for entry in given:
            content = given.extractfile(entry).read()  # type: ignore[union-attr]
            if entry is chosen:
                npy = entry.name.endswith("npy")
                content = (formats.spoil_npy if npy else formats.spoil_png)(content, generator).content
                entry.name = pick(generator, (entry.name, entry.name, "../" + entry.name, "/a.png", "a", "b.png"))
                entry.type = pick(
                    generator, (tarfile.REGTYPE,) * 6 + (tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
                )
                entry.linkname = "/etc/passwd" if entry.type == tarfile.SYMTYPE else ""
            entry.size = len(content) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(content))
    return Mutant(file.getvalue())


def _read_triples(folder: Path) -> None:
    for triple in TarTriples([folder / "a.tar"], 16).read(folder / "a.tar"):
        hold(
            triple.image.shape == triple.posed.shape == (4, 16, 16) and triple.pose.shape == (45,),
            "a triple of another form",
        )
        hold_finite(*triple)


def _segmenter_files() -> Files:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((1, 3, 1, 1), 0.3, np.float32), "w")
    node = helper.make_node("Conv", ["img", "w"], ["y"])
    value = helper.make_tensor_value_info
    given, made = value("img", TensorProto.FLOAT, [1, 3, 32, 32]), value("y", TensorProto.FLOAT, [1, 1, 32, 32])
    graph = helper.make_graph([node], "toy", [given], [made], [weight])
    return {
        "a.onnx": helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
    }


def _spoil_onnx(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    import onnx

    kind = int(generator.integers(8))
    if kind <= 2:
        return spoil_bytes(data, generator)
    model = onnx.load_from_string(data)
    graph, huge = model.graph, int(pick(generator, (0, -1, 1, 31, 10**6, 2**40, 2**62)))
    if kind == 3:
        pick(generator, (graph.input, graph.output))[0].type.tensor_type.shape.dim[
            int(generator.integers(4))
        ].dim_value = huge
    elif kind == 4:
        graph.initializer[0].dims[int(generator.integers(4))] = huge
    elif kind == 5:
        weight = graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        location = pick(generator, ("../other/a.onnx", "/etc/passwd", "../../etc/passwd", "gone.bin"))
        for key, text in (("location", location), ("offset", "0"), ("length", pick(generator, ("12", str(2**40))))):
            weight.external_data.add(key=key, value=text)
        return Mutant(model.SerializeToString(), refuse=True)
    elif kind == 6:
        graph.node[0].op_type = pick(
            generator, ("Relu", "Nothing", "If", "Loop", "Shape", "Identity", "Sum", "ReduceMax")
        )
    else:
        for field in (graph.input, graph.output, graph.node, graph.initializer, model.opset_import):
            if generator.random() < 0.4:
                field.pop()
    return Mutant(model.SerializeToString())


def _read_segmenter(folder: Path) -> None:
    rgb = np.full((40, 30, 3), 90, np.uint8)
    rgb[:20] = 200
    alpha = segment(rgb, folder / "a.onnx")
    hold(alpha.shape == (40, 30) and bool((alpha >= 0).all() and (alpha <= 1).all()), "an alpha of another form")


POSE_LOADERS = {
    "poses (.npy, .pt, .csv)": Loader(150, _pose_files, _spoil_poses, _read_poses),
    "track (.json)": Loader(100, _track_files, _spoil_track, _read_track),
    "capture (.jsonl, .pcap, .txt)": Loader(60, _capture_files, _spoil_capture, _read_track),
    "Live Link take (.csv)": Loader(40, _live_link_files, spoil_csv, _read_track),
    "sound (.wav)": Loader(10, _sound_files, lambda name, data, generator: spoil_bytes(data, generator), _read_sound),
    "picture": Loader(40, _picture_files, _spoil_picture, _read_picture),
    "character folder and mask": Loader(3, _character_files, _spoil_picture, _read_character, alone=False),
    "triples (.tar)": Loader(10, _triple_files, _spoil_tar, _read_triples),
    "segmenter (.onnx)": Loader(10, _segmenter_files, _spoil_onnx, _read_segmenter),
}
