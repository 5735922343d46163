"""load_teacher: its words, its refusals, and that the networks are those of the published files."""

from __future__ import annotations

import json
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from thadistill.errors import UserError
from thadistill.teacher import Teacher, load_teacher
from thadistill.teacher.chain import ChainTeacher
from thadistill.teacher.tha3 import Tha3Teacher
from thadistill.teacher.tha4 import Tha4Teacher

CONF = Path(__file__).parents[2] / "conf" / "teacher"


@pytest.mark.parametrize(
    ("build", "tensors"),
    [
        (lambda: Tha3Teacher("tha3", separable=True), "tha3_separable_tensors.json"),
        (lambda: Tha3Teacher("tha3", separable=False), "tha3_standard_tensors.json"),
        (lambda: Tha4Teacher(), "tha4_teacher_tensors.json"),
    ],
)
def test_tensor_names_and_shapes_are_the_published_ones(build: object, tensors: str, reference: Path) -> None:
    with torch.device("meta"):
        teacher = build()
    found = {
        name: {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
        for name, network in teacher.named_children()
    }
    assert found == json.loads((reference / "golden" / tensors).read_text())


def test_networks_start_as_finite_functions() -> None:
    torch.manual_seed(0)
    teacher = Tha3Teacher("tha3/new", separable=True).requires_grad_(False)
    out = teacher(torch.rand(1, 4, 512, 512) * 2 - 1, torch.zeros(1, 45))
    assert out.posed.isfinite().all()
    # the heads of the grid changes start at zero: nothing moves
    torch.testing.assert_close(out.grid_change, torch.zeros_like(out.grid_change), rtol=0, atol=0)


def test_sizes_are_those_of_the_files(tha3: Teacher) -> None:
    sizes = tha3.size_mb
    assert list(sizes) == [
        "eyebrow_decomposer",
        "eyebrow_morphing_combiner",
        "face_morpher",
        "two_algo_face_body_rotator",
        "editor",
    ]
    assert sum(sizes.values()) == pytest.approx(58.0, abs=0.3)


def test_fingerprint_knows_weights_precision_and_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = Tha3Teacher("tha3/a", separable=True).requires_grad_(False)
    before = teacher.fingerprint()
    assert before == teacher.fingerprint()
    teacher.use_autocast(torch.bfloat16)
    assert teacher.fingerprint() != before
    teacher.use_autocast(None)
    assert teacher.fingerprint() == before
    teacher.editor.alpha_creator[0].bias[2] += 1e-3
    changed = teacher.fingerprint()
    assert changed != before
    teacher.name = "tha3/b"
    assert teacher.fingerprint() not in (before, changed)
    assert teacher.half().fingerprint() != changed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "tha5"}, "no teacher is called 'tha5'; expected one of: tha3, tha4, puppet"),
        ({"name": "tha3", "variant": "tiny"}, "THA3 has no variant 'tiny'"),
        ({"name": "tha3", "variant": "standard_float"}, "on no package registry; expected weights=FOLDER"),
        ({"name": "tha3", "dtype": "int8"}, "dtype is int8; expected one of: float32"),
        ({"name": "tha3", "autocast": "int8"}, "dtype is int8; expected one of: float32"),
        ({"name": "tha3", "fast": True}, "no option 'fast'; expected of: autocast, channels_last, compile"),
        ({"name": "tha4"}, "THA4's weights are on no package registry"),
        ({"name": "tha4", "weights": "w", "variant": "x"}, "THA4 has one variant; 'x' came"),
        ({"name": "puppet", "weights": "w"}, "the puppet is drawn"),
        ({"name": "puppet", "compile": True}, "no option 'compile'; expected of: seed"),
    ],
)
def test_refusals_are_one_line(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as caught:
        load_teacher(**arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_another_variant_are_refused(tha3_standard_files: Path) -> None:
    with pytest.raises(UserError, match=r"eyebrow_decomposer\.pt came without .*; expected the 80 tensors"):
        load_teacher("tha3", weights=tha3_standard_files)


@pytest.mark.parametrize("name", ["tha3", "tha4"])
def test_configurations_load(name: str, tmp_path: Path) -> None:
    config = OmegaConf.load(CONF / f"{name}.yaml")
    if name == "tha4":
        with pytest.raises(hydra.errors.InstantiationException, match="expected weights=PATH"):
            hydra.utils.instantiate(config)
        return
    teacher = hydra.utils.instantiate(config)
    assert isinstance(teacher, ChainTeacher)
    assert teacher.name == "tha3/separable_float"
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.training


def test_options_reach_every_network(tha3: Teacher) -> None:
    teacher = load_teacher("tha3", autocast="bfloat16", channels_last=True, compile=True)
    for network in teacher.networks():
        assert network.autocast == torch.bfloat16
        assert not network.row_tiled
        assert network._compiled_call_impl is not None
    head = teacher.editor.alpha_creator[0].weight
    assert head.is_contiguous(memory_format=torch.channels_last)
    assert all(network.row_tiled and network.autocast is None for network in tha3.networks())
    assert teacher.fingerprint() != tha3.fingerprint()
