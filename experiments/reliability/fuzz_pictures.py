"""Pictures: the loaders of pictures, character folders, triples and segmenters."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import formats
import numpy as np
from fuzz_models import character_png
from fuzz_poses import POSES, npy_bytes
from loaders import Files, Loader, hold, hold_finite
from mutants import Mutant, pick, spoil_bytes
from PIL import Image

from thadistill.data.character import from_folder
from thadistill.data.segmenter import segment
from thadistill.data.triples import TarTriples
from thadistill.images.picture import read_picture

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
            ("pose.npy", npy_bytes(POSES[0].numpy())),
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


PICTURE_LOADERS = {
    "picture": Loader(40, _picture_files, _spoil_picture, _read_picture),
    "character folder and mask": Loader(3, _character_files, _spoil_picture, _read_character, alone=False),
    "triples (.tar)": Loader(10, _triple_files, _spoil_tar, _read_triples),
    "segmenter (.onnx)": Loader(10, _segmenter_files, _spoil_onnx, _read_segmenter),
}
