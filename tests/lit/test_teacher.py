"""TeacherModule: its phases, its losses, that both networks learn, and that weights come and go under published names."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F

from thadistill.callbacks import Budget
from thadistill.data.triples import Triple
from thadistill.errors import UserError
from thadistill.lit.perceptual_loss import PerceptualLoss
from thadistill.lit.schedule import Steps
from thadistill.lit.teacher import Phase, TeacherModule, near_identity_init, views_of
from thadistill.pipeline.teacher import load_one
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher.tha4 import BodyMorpher, Upscaler
from thadistill.warp import resize

ADAM = partial(torch.optim.Adam, lr=3e-3, betas=(0.5, 0.999))


def small(upscaler: bool = False, **options: object) -> TeacherModule:
    torch.manual_seed(0)
    network = Upscaler(8, (1, 2)) if upscaler else BodyMorpher(8, (1, 2))
    near_identity_init(network)
    settings: dict[str, object] = {"phases": [Phase(1.0)], "warmup_triples": 0, **options}
    return TeacherModule(network, ADAM, Steps([], [1.0]), **settings)  # type: ignore[arg-type]


def triples(n: int = 4, size: int = 32) -> Triple:
    """Blobs that head_x moves to the right: a motion that a grid change can express."""
    generator = torch.Generator().manual_seed(1)
    picture = resize(torch.rand(n, 4, 6, 6, generator=generator) * 2 - 1, size, size)
    pose = torch.zeros(n, 45)
    pose[:, POSE_PARAMETERS.index("head_x")] = 1.0
    return Triple(picture, pose, picture.roll(3, dims=-1))


def fit(module: TeacherModule, steps: int, folder: Path) -> None:
    batch = triples()
    L.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
        callbacks=[Budget(count=steps * len(batch.pose), progress_by="poses")],
    ).fit(module, torch.utils.data.DataLoader([batch] * steps, batch_size=None))  # type: ignore[arg-type] # fmt: skip


@pytest.mark.parametrize("upscaler", [False, True])
def test_both_networks_learn_to_move(tmp_path: Path, upscaler: bool) -> None:
    module, batch = small(upscaler), triples()
    before = module.validation_step(batch, 0)
    start = module(batch.image, batch.pose)
    assert torch.equal(start.warped, batch.image) or float((start.warped - batch.image).abs().max()) < 1e-5
    fit(module, 60, tmp_path)
    after = F.l1_loss(module(batch.image, batch.pose).merged, batch.posed)
    assert module.triples_seen == 240
    assert after < 0.6 * F.l1_loss(before["student"], batch.posed)
    assert after < 0.8 * F.l1_loss(batch.image, batch.posed)


def test_the_first_phase_is_l1_of_three_pictures_and_the_second_adds_features() -> None:
    module = small(phases=[Phase(0.5), Phase(1.0, perceptual=0.2)], perceptual=PerceptualLoss("laplacian"))
    batch = triples()
    out = module(batch.image, batch.pose)
    l1 = sum(F.l1_loss(picture, batch.posed) for picture in (out.warped, out.direct, out.merged))
    torch.testing.assert_close(module.losses(out, batch.posed)["loss"], l1)
    module.progress = 0.5
    terms = module.losses(out, batch.posed)
    torch.testing.assert_close(terms["l1"], l1)
    torch.testing.assert_close(terms["loss"], l1 + 0.2 * terms["perceptual"])
    assert float(terms["perceptual"]) > 0


def test_the_coarse_phase_sees_the_body_morpher_and_five_views() -> None:
    coarse = BodyMorpher(8, (1, 2))
    module = small(True, phases=[Phase(0.5), Phase(1.0, coarse=True)], coarse=coarse)
    batch = triples()
    alone = module(batch.image, batch.pose)
    module.progress = 0.7
    out = module(batch.image, batch.pose)
    assert not torch.equal(alone.direct, out.direct)
    assert not any(p.requires_grad for p in coarse.parameters())
    assert {id(p) for p in coarse.parameters()}.isdisjoint(id(p) for p in module.parameters())
    views = views_of(batch.posed)
    assert [tuple(view.shape[-2:]) for view in views] == [(16, 16)] * 5
    torch.testing.assert_close(torch.cat([views[1], views[2]], dim=-1), batch.posed[..., :16, :])
    expected = sum(
        F.l1_loss(a, b) / 5
        for picture in (out.direct, out.merged)
        for a, b in zip(views_of(picture), views, strict=True)
    )
    torch.testing.assert_close(module.losses(out, batch.posed)["loss"], expected)


def test_the_rate_rises_over_examples(tmp_path: Path) -> None:
    module = small(warmup_triples=16)
    rates = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, *rest) -> None:  # type: ignore[no-untyped-def]
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    L.Trainer(
        accelerator="cpu", max_steps=6, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[Watch()],
    ).fit(module, torch.utils.data.DataLoader([triples()] * 6, batch_size=None))  # type: ignore[arg-type] # fmt: skip
    assert rates == pytest.approx([3e-3 * share for share in (0.25, 0.5, 0.75, 1, 1, 1)])


@pytest.mark.parametrize("name", ["laplacian", "stlpips_alex"])
def test_features_are_nil_for_equal_pictures_and_have_a_gradient(name: str) -> None:
    if name == "stlpips_alex":
        pytest.importorskip("stlpips_pytorch")
    loss, batch = PerceptualLoss(name), triples(1, 64)  # type: ignore[arg-type]
    assert loss.name == name
    for alpha in (False, True):
        assert float(loss(batch.image, batch.image, alpha)) == 0
        found = batch.image.clone().requires_grad_()
        distance = loss(found, batch.posed, alpha)
        distance.backward()
        assert float(distance) > 0
        gradient = found.grad
        assert gradient is not None
        assert bool(torch.isfinite(gradient).all())
        # alpha's call looks at alpha alone, the other at RGB alone
        seen, unseen = (gradient[:, 3:], gradient[:, :3]) if alpha else (gradient[:, :3], gradient[:, 3:])
        assert float(seen.abs().max()) > 0
        assert float(unseen.abs().max()) == 0


def test_no_features_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    with pytest.raises(UserError, match=r"vgg16 needs .*laplacian"):
        PerceptualLoss("vgg16")
    with pytest.raises(UserError, match="none came"):
        small(phases=[Phase(1.0, perceptual=0.2)])
    with pytest.raises(UserError, match="coarse=FOLDER"):
        small(phases=[Phase(1.0, coarse=True)])


def test_vgg16_taps_the_papers_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    file = tmp_path / "checkpoints" / Path(torchvision.models.VGG16_Weights.IMAGENET1K_V1.url).name
    file.parent.mkdir()
    layers = torchvision.models.vgg16(weights=None).features
    published = {f"features.{name}": tensor for name, tensor in layers.state_dict().items()}
    torch.save(published, file, _use_new_zipfile_serialization=False)  # the published file is of an old torch
    loss = PerceptualLoss("vgg16")
    shown = torch.rand(1, 3, 16, 16)
    maps = loss.features(shown)
    assert [tuple(found.shape[1:]) for found in maps] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    normalised = (shown - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    torch.testing.assert_close(maps[2], layers[:16](normalised))


def test_published_names_are_read_back_and_others_refused(tmp_path: Path) -> None:
    torch.save(small().network.state_dict(), tmp_path / "body_morpher.pt")
    other = BodyMorpher(8, (1, 2))
    load_one("body_morpher", other, tmp_path)
    for name, tensor in small().network.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    with pytest.raises(UserError, match="another network"):
        load_one("body_morpher", BodyMorpher(16, (1, 2)), tmp_path)
