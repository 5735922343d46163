"""What users type is what a command gets: paths and names of any spelling, characters, sweeps over either."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from thadistill.config import compose, conf_dir
from thadistill.config.overrides import flag_value, quoted, read_overrides, split_flags, unquoted
from thadistill.errors import UserError

STRANGE = [
    "20261126_1712", "1e3", "true", "3", "a=1,b=2", "初音ミク.png", "pic (1).png", "it's", "runs [v2]/x", "[v2]/x", "a: b",
    "{x}", "~/x", "x\\", "x\\'y", 'say "no"', "#1", "a,b", " padded ", "50%", "null.png", "$5", "choice(a)", "k=[1,2]",
]  # fmt: skip


def read(*overrides: str, sweep: bool = False) -> list[str]:
    return read_overrides(overrides, [conf_dir()], sweep)


@pytest.mark.parametrize("value", STRANGE)
def test_paths_and_names_are_taken_as_typed(value: str) -> None:
    for verb, key in (("evaluate", "model"), ("prepare", "image"), ("distill", "out"), ("distill", "targets")):
        (override,) = OverridesParser.create().parse_overrides(read(f"{key}={value}"))
        assert override.value() == value, (verb, key)
    assert unquoted(quoted(value)) == value
    config = compose("distill", [f"out={value}", f"targets={value}", f"+logger.csv.save_dir={value}"])
    assert (config.out, config.targets, config.logger.csv.save_dir) == (value, value, value)


def test_what_is_in_hydras_words_stays_so() -> None:
    for same in (
        "init=null",
        "out='a b'",
        'out="a,b"',
        "targets=",
        "seed=3",
        "model=[a,b]",
        "recipe=fast",
        "model=???",
    ):
        assert read(same) == [same]
    assert read("face_mask=false") == ["face_mask=false"]
    assert read("out=[a,b]") == ["out='[a,b]'"]  # out is one folder


@pytest.mark.parametrize(
    "verb", ["distill", "train", "cache", "evaluate", "benchmark", "export", "serve", "prepare", "assets"]
)
def test_every_path_of_every_command_is_taken_as_typed(verb: str) -> None:
    needed = {"train": ["module=body_rotator"]}.get(verb, [])
    typed = {"distill": "init", "train": "init", "cache": "targets", "evaluate": "poses", "export": "poses"}
    key = {"prepare": "image", "assets": "path", "benchmark": "model", "serve": "model"}.get(verb) or typed[verb]
    config = compose(verb, [*needed, "out=1e3", f"{key}=a=1,b=(2)"])
    assert (config.out, config[key]) == ("1e3", "a=1,b=(2)")


def test_sweeps_divide_at_commas_but_not_what_lies_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=1,b=2").mkdir()
    assert read("model=x,y", sweep=True) == ["model='x','y'"]
    assert read("model=a=1,b=2", sweep=True) == ["model='a=1,b=2'"]
    assert read("model=x,a=1,b=2,y", sweep=True) == ["model='x','a=1,b=2','y'"]
    assert read("model=choice(x,y)", sweep=True) == ["model=choice(x,y)"]
    assert read("model='a','b'", sweep=True) == ["model='a','b'"]
    assert read("out=a,b", sweep=True) == ["hydra.sweep.dir='a,b'"]  # where a sweep leaves its jobs


def test_folders_stand_for_characters(tmp_path: Path) -> None:
    assert read(f"character={tmp_path}") == ["character=folder", f"character.folder='{tmp_path}'"]
    assert read("character=lambda_00", "seed=1") == ["character=lambda_00", "seed=1"]
    assert read("character=lambda_00,crypko_00", sweep=True) == ["character=lambda_00,crypko_00"]
    for name in ("it's (1)", "a=1,b=2", "初音ミク", "x [y]*"):
        (tmp_path / name).mkdir()
        config = compose("distill", [f"character={tmp_path / name}"])
        assert config.character.folder == str(tmp_path / name)
        assert compose("distill", [f"character={quoted(str(tmp_path / name))}"]).character.folder == str(
            tmp_path / name
        )


def test_globs_over_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read("character=glob(lambda*)") == ["character=lambda_00,lambda_01"]
    everyone = read("character=glob(*)")[0]
    assert everyone.count(",") == 9
    assert "folder" not in everyone
    assert "puppet" not in everyone
    assert read("character=glob(*,exclude=crypko*)") == ["character=lambda_00,lambda_01"]
    assert read("character=glob([lambda_00,*_01])") == ["character=crypko_01,lambda_00,lambda_01"]
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "character.png").touch()
    both = f"character.folder='{tmp_path}/mine/one','{tmp_path}/mine/two'"
    for given in ("mine/*", f"{tmp_path}/mine/*", f"{tmp_path}/m*/*", "mine/one,mine/two", "mine/[ot]*"):
        assert read(f"character={given}") == ["character=folder", both]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lambda_00,nobody", "character=nobody is unknown"),
        ("glob(x*)", "is unknown"),
        ("nothing/*", "is unknown"),
        ("/nothing/*", "is unknown"),
    ],
)
def test_characters_that_are_not_there(given: str, message: str) -> None:
    with pytest.raises(
        UserError, match=r"is unknown; expected a picture, a folder with character\.png, or one of crypko_00"
    ) as caught:
        read(f"character={given}")
    assert message in str(caught.value)


def test_flags_keep_their_values() -> None:
    flags, overrides = split_flags(["--config-dir", "a=b", "seed=1", "-m", "--cfg", "job", "x=y", "--config-dir=c"])
    assert (flags, overrides) == (["--config-dir", "a=b", "-m", "--cfg", "job", "--config-dir=c"], ["seed=1", "x=y"])
    assert flag_value(flags, "--config-dir") == "a=b"
    assert flag_value(flags, "-cd") is None


def test_a_folder_of_ones_own_configs_is_searched(tmp_path: Path) -> None:
    own = tmp_path / "it's mine"
    (own / "recipe").mkdir(parents=True)
    (own / "recipe" / "mine.yaml").write_text("defaults: [fast]\nname: mine\n")
    (own / "character").mkdir()
    (own / "character" / "me.yaml").write_text("_target_: thadistill.data.character.puppet\nseed: 3\nface_mask: null\n")
    config = compose("distill", ["recipe=mine", "character=me", "teacher=puppet"], own)
    assert (config.recipe.name, config.recipe.targets.face, config.character.seed) == ("mine", 1024, 3)
    with pytest.raises(UserError, match="recipe/mine"):
        compose("distill", ["recipe=mine"])
