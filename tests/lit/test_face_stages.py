"""FaceStagesModule: every network gets a gradient, the loss falls, and the command leaves the published files."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from thadistill.config import compose
from thadistill.data.triples import FolderTriples, Triple, stack, write_puppet_triples
from thadistill.images import FACE_REGION
from thadistill.lit.face_stages import FaceStagesModule
from thadistill.lit.schedule import Steps
from thadistill.lit.teacher import Phase, near_identity_init
from thadistill.metrics.image import psnr
from thadistill.pipeline.teacher import build_module, named_networks
from thadistill.teacher.face_stages import FaceStages


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Triple:
    folder = tmp_path_factory.mktemp("triples")
    write_puppet_triples(folder, seed=3, poses=2)
    triples = FolderTriples(folder, 512, face=True)
    return stack([triples[0], triples[1]])


def test_triples_for_the_face_go_from_rest_to_the_posed_face(faces: Triple) -> None:
    assert torch.equal(faces.image[0], faces.image[1])
    assert not torch.equal(faces.posed[0], faces.posed[1])
    changed = (faces.posed - faces.image).abs().amax(dim=(0, 1)) > 0.05
    rows, columns = changed.nonzero().unbind(1)
    assert rows.numel() > 100
    assert (int(rows.min()), int(columns.min())) >= (32, 160)
    assert int(rows.max()) < 224
    assert int(columns.max()) < 352


def test_all_three_networks_learn(faces: Triple) -> None:
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999))
    module = FaceStagesModule(FaceStages(separable=True), adam, Steps([], [1.0]), [Phase(1.0)], warmup_triples=0)
    optimizer = module.configure_optimizers()
    losses = []
    for _ in range(6):
        loss = module.losses(module(faces.image, faces.pose), faces.posed)["loss"]
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            for name, network in named_networks("face_stages", module.network).items():
                assert any(float(p.grad.abs().max()) > 0 for p in network.parameters() if p.grad is not None), name
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("separable", [True, False])
def test_training_begins_near_the_given_face(separable: bool, faces: Triple) -> None:
    torch.manual_seed(0)
    network = FaceStages(separable=separable)
    near_identity_init(network)
    with torch.inference_mode():
        found = network(faces.image[:1], faces.pose[:1]).face.output
    assert float(psnr(found, FACE_REGION.crop(faces.image[:1]))) > 20  # 8 dB without


def test_the_stage_is_composed_and_named_as_published() -> None:
    overrides = [
        "module=teacher",
        "stage=face_stages",
        "stage.network.separable=true",
        "stage.perceptual=laplacian",
    ]
    config = compose("train", overrides)
    module = build_module(config)
    assert isinstance(module, FaceStagesModule)
    assert config.triples.face is True
    assert [*named_networks("face_stages", module.network)] == [
        "eyebrow_decomposer",
        "eyebrow_morphing_combiner",
        "face_morpher",
    ]
