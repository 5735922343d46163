"""Schema: which values the keys of a composed config may hold; checked before any work begins.

The one list of keys that are paths or names, whose values the command line takes as they are typed, is here too.
"""

from __future__ import annotations

import math
import netrc
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, ListConfig, OmegaConf

from thadistill.errors import UserError


@dataclass(frozen=True)
class Kind:
    """What a key takes: ``accepts`` decides, ``expected`` says it in a message; ``as_typed``: it is a path or a name."""

    expected: str
    accepts: Callable[[Any], bool]
    as_typed: bool = False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def whole(least: int = 1, most: int | None = None) -> Kind:
    """Whole numbers."""
    if most is not None:
        expected = f"a whole number from {least} to {most}"
    else:
        expected = "a whole number above 0" if least == 1 else f"a whole number, {least} or more"
    return Kind(expected, lambda value: _is_whole(value) and least <= value <= (math.inf if most is None else most))


def number(above: int | float = 0, expected: str | None = None) -> Kind:
    """Finite numbers above a bound."""
    return Kind(expected or f"a number above {above:g}", lambda value: _is_number(value) and value > above)


def number_from(least: int | float, most: int | float | None = None) -> Kind:
    """Finite numbers from one bound to another, both included."""
    expected = f"a number, {least:g} or more" if most is None else f"a number from {least:g} to {most:g}"
    return Kind(expected, lambda value: _is_number(value) and least <= value <= (math.inf if most is None else most))


def one_of(*names: str) -> Kind:
    """One of several words."""
    return Kind(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


def some_of(*names: str, least: int = 0) -> Kind:
    """A list of words, such as ``[a,b]``."""
    what = f"a list of {'one or more' if least else 'none or more'} of {', '.join(names)}, such as [{names[0]}]"
    return Kind(what, lambda v: isinstance(v, list) and len(v) >= least and all(one in names for one in v))


def names_of(*names: str) -> Kind:
    """Words between commas in one value."""
    what = f"one or more of {', '.join(names)}, separated by commas"

    def accepts(value: Any) -> bool:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else []
        return any(parts) and all(part in names for part in parts if part)

    return Kind(what, accepts, as_typed=True)


def each(kind: Kind, least: int = 0) -> Kind:
    """A list whose members are of one kind; or a member alone where it is nested deeper."""

    def accepts(value: Any) -> bool:
        if not isinstance(value, list) or len(value) < least:
            return False
        return all(accepts(one) if isinstance(one, list) else kind.accepts(one) for one in value)

    return Kind(f"a list, each {kind.expected}", accepts)


def either(*kinds: Kind) -> Kind:
    """What any of several kinds takes."""
    expected = " or ".join(kind.expected for kind in kinds)
    return Kind(expected, lambda value: any(kind.accepts(value) for kind in kinds), any(k.as_typed for k in kinds))


def or_null(kind: Kind) -> Kind:
    """What a kind takes, or nothing."""
    return Kind(f"{kind.expected}, or null", lambda value: value is None or kind.accepts(value), kind.as_typed)


TEXT = Kind("a path or a name", lambda value: isinstance(value, str) and value != "", as_typed=True)
ANY_TEXT = Kind("a name", lambda value: isinstance(value, str), as_typed=True)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
SHARE = number_from(0, 1)
SEED = whole(0, 2**32 - 1)
MINUTES = or_null(number(expected="minutes above 0"))
RUNTIMES = ("exact", "reduced", "eager", "folded", "onnx", "native", "int16", "half")
RATE = Kind("a number above 0, 1000 at most", lambda value: _is_number(value) and 0 < value <= 1000)
OPTIMIZERS = ("recipe.*.optimizer", "stage.optimizer")

# Patterns over whole keys; * stands for anything, dots included, and the first that fits decides.
# A key that none fits is whatever the code that reads it makes of it.
SCHEMA: dict[str, Kind] = {
    # paths and names
    "out": TEXT,
    "model": or_null(either(TEXT, Kind("a list of them", lambda v: isinstance(v, list) and bool(v)))),
    "image": TEXT,
    "path": or_null(TEXT),
    "pull": or_null(TEXT),
    "poses": or_null(TEXT),
    "init": or_null(TEXT),
    "recipe.init": or_null(TEXT),
    "targets": or_null(TEXT),
    "character.folder": TEXT,
    "character.name": TEXT,
    "character.face_mask": or_null(TEXT),
    "teacher.weights": or_null(TEXT),
    "recipe.targets.poses.source": TEXT,
    "stage.coarse": or_null(TEXT),
    "triples.folder": or_null(TEXT),
    "triples.shards": TEXT,
    "triples.test": TEXT,
    "host": TEXT,
    "logger.*.offline": FLAG,
    "logger.*.log_model": Kind("true, false or all", lambda value: isinstance(value, bool) or value == "all"),
    "logger.*.tags": Kind("a list of names", lambda value: value is None or isinstance(value, list)),
    "logger.*._target_": TEXT,
    **{f"logger.*.{key}": or_null(ANY_TEXT) for key in ("save_dir", "dir", "name", "project", "group", "entity")},
    **{f"logger.*.{key}": or_null(ANY_TEXT) for key in ("id", "notes", "job_type", "version")},
    "trainer.default_root_dir": or_null(TEXT),
    "hydra.run.dir": TEXT,
    "hydra.sweep.dir": TEXT,
    "hydra.sweep.subdir": TEXT,
    "hydra.launcher.folder": TEXT,
    "hydra.launcher.parameters.slurm_partition": or_null(TEXT),
    # the commands' own keys; face_mask is a flag of prepare, a path of evaluate
    "face_mask": Kind("true or false, a PNG, or null", lambda v: v is None or isinstance(v, str | bool), as_typed=True),
    "module": one_of("face_morpher", "body_rotator", "teacher"),
    "format": one_of("onnx", "web"),
    "kind": one_of("posed", "face", "validation", "validation_face", "evaluation"),
    "runtime": names_of(*RUNTIMES),
    "dtype": one_of("float32", "float16"),
    "outputs": some_of("rgba", "posed", "warped", "grid_change", "color_change", "alpha", "face", least=1),
    "background": or_null(TEXT),
    "fps": or_null(RATE),  # null in drive alone
    "poses_fps": RATE,
    "side_by_side": FLAG,
    "smoothing": SHARE,
    "idle": FLAG,
    "eyebrow_down": one_of("angry", "troubled", "serious", "lowered"),
    "wink": one_of("normal", "relaxed"),
    "port": Kind("a number from 0 (any free one) to 65535", lambda v: _is_whole(v) and 0 <= v <= 65535),
    "source": TEXT,
    "sink": TEXT,
    "record": or_null(TEXT),
    "to": TEXT,
    "phone": or_null(TEXT),
    "listen": TEXT,
    "listen_port": or_null(whole(1, 65535)),
    "camera": either(TEXT, whole(0)),
    "microphone": or_null(either(TEXT, whole(0))),
    "calibrate_s": number_from(0),
    "loop": FLAG,
    "mirror": FLAG,
    "head": or_null(Kind("[left,top,right,bottom], in pixels or fractions", _is_box)),
    "segmenter": or_null(TEXT),
    "force": FLAG,
    "open": FLAG,
    "single": FLAG,
    "device": Kind(
        "auto, cpu, cuda, cuda:N or mps", lambda v: bool(re.fullmatch(r"auto|cpu|gpu|mps|cuda(:\d+)?", str(v)))
    ),
    "perceptual": some_of("stlpips", "lpips"),
    "batch": whole(),
    "frames": whole(),
    "n": or_null(whole()),
    "threads": or_null(whole()),
    "seed": SEED,
    "*.seed": SEED,
    "budget_minutes": MINUTES,
    "keep_every": MINUTES,
    "validation.checks": whole(0),
    "validation.poses": whole(),
    "validation.faces": whole(),
    "validation.triples": whole(),
    "evaluation.poses": whole(),
    "evaluation.speed": FLAG,
    "evaluation.perceptual": some_of("stlpips", "lpips"),
    "evaluation.runtime": one_of(*RUNTIMES),
    # the recipe, and the stage of a teacher
    **{f"{optimizer}.{key}": number() for optimizer in OPTIMIZERS for key in ("lr", "adam_lr")},
    **{f"{optimizer}.betas": each(number_from(0, 1), 2) for optimizer in OPTIMIZERS},
    **{f"{optimizer}.damping": or_null(number()) for optimizer in OPTIMIZERS},
    **{f"{optimizer}.iterations": whole() for optimizer in OPTIMIZERS},
    "recipe.background_worker": FLAG,
    "recipe.targets.low_precision": FLAG,
    "recipe.targets.poses.rotations": one_of("uniform", "sobol"),
    "recipe.targets.poses.poses_per_face": whole(),
    "recipe.targets.face": whole(),
    "recipe.targets.posed": whole(),
    "recipe.*.near_identity_init": FLAG,
    "recipe.*.zero_facial_init": FLAG,
    "recipe.face_morpher.progress_by": one_of("minutes", "poses"),
    "recipe.body_rotator.progress_by": one_of("minutes", "patches"),
    "recipe.face_morpher.poses": or_null(whole()),
    "recipe.body_rotator.patches": or_null(whole()),
    "recipe.*.pixels": or_null(whole()),
    "recipe.*.patches": whole(),
    "recipe.*.batch_size": whole(),
    "recipe.*.stream.size": whole(1, 512),
    "recipe.*.overhang": whole(0),
    "recipe.*share": SHARE,
    "recipe.*_lr_scale": number_from(0),
    "recipe.*.mask_weight": number_from(0),
    "recipe.*.position_gain": number(),
    "recipe.*.warmup": SHARE,
    "recipe.*.until": each(SHARE),
    "recipe.*.factors": each(number_from(0)),
    "recipe.*.weights.weights": each(number_from(0)),
    "recipe.*.phases": or_null(each(whole(), 1)),
    "stage.name": one_of("body_morpher", "upscaler", "face_stages"),
    "stage.size": whole(),
    "stage.face": FLAG,
    "stage.batch_size": whole(),
    "stage.triples": or_null(whole()),
    "stage.progress_by": one_of("minutes", "triples"),
    "stage.warmup_triples": whole(0),
    "stage.perceptual": or_null(one_of("vgg16", "stlpips_alex", "laplacian")),
    "stage.*.until": each(SHARE),
    "stage.*.factors": each(number_from(0)),
    "stage.learning_rate.warmup": SHARE,
    "stage.learning_rate.floor": SHARE,
    "stage.learning_rate.until": each(SHARE),
    "stage.learning_rate.factors": each(number_from(0)),
    "triples.poses": whole(),
    "triples.size": whole(),
    "triples.face": FLAG,
    "triples.*_characters": whole(),
    "triples.test_share": SHARE,
    # networks
    "student.*.width_scale": number(),
    "student.*.omega": number(),
    "student.*.depth": whole(),
    "student.*.width": whole(),
    "student.*.widths": each(whole(), 1),
    "student.*.sizes": each(whole(), 1),
    "teacher.dtype": one_of("float32", "float16", "bfloat16"),
    "teacher.autocast": or_null(one_of("float16", "bfloat16")),
    "teacher.channels_last": FLAG,
    "teacher.compile": FLAG,
    **{
        node: Kind(f"its settings, or some of them by {node}.KEY=", lambda value: value is not None)
        for node in (
            *("recipe", "student", "student.face_morpher", "student.body_rotator", "recipe.face_morpher", "trainer"),
            *("recipe.body_rotator", "recipe.targets", "validation", "evaluation", "modules", "stage", "triples"),
        )
    },
    # the rest of Lightning's trainer says what it cannot do when it is made
    "trainer.accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.devices": Kind(
        "a count above 0, auto or -1 for all, or a list of numbers",
        lambda v: isinstance(v, list) or bool(re.fullmatch(r"auto|-1|[1-9]\d*|\d+(,\d+)+,?|\d+,", str(v))),
    ),
    "trainer.precision": Kind(
        "32, 16-mixed, bf16-mixed, or another of Lightning's",
        lambda v: v is None or bool(re.fullmatch(r"(16|32|64|bf16)(-(true|mixed))?|transformer-engine.*", str(v))),
    ),
    "trainer.strategy": Kind(
        "auto, ddp, or another of Lightning's",
        lambda v: bool(re.match(r"auto$|ddp|fsdp|deepspeed|single_device|xla|model_parallel", str(v))),
    ),
    "trainer.num_nodes": whole(),
    "trainer.max_epochs": whole(-1),
    "trainer.max_steps": whole(-1),
    "trainer.log_every_n_steps": whole(),
    "callbacks.*.poses": whole(),
    "callbacks.*.worst": whole(0),
    "callbacks.*.fps_floor": number_from(0),
    "callbacks.*.runtime": one_of(*RUNTIMES),
    "callbacks.*.perceptual": some_of("stlpips", "lpips"),
    "callbacks.*.restore": FLAG,
}
_PATTERNS = tuple(SCHEMA.items())
# what is null, or several, in other verbs alone
_OF_ONE = ("evaluate", "benchmark", "animate")
_NEEDED = {"evaluate": ("model", "poses", "n"), "animate": ("poses",)}


def kind_of(key: str) -> Kind | None:
    """What a key takes, by its full name; None where the schema says nothing of it."""
    return next((kind for pattern, kind in _PATTERNS if fnmatchcase(key, pattern)), None)


def is_as_typed(key: str) -> bool:
    """Whether the values of a key are paths or names, which are taken as they are typed."""
    kind = kind_of(key)
    return kind is not None and kind.as_typed


def check_values(config: DictConfig, verb: str) -> None:
    """Refuses a verb's composed config with a value that its key cannot hold; what is missing (???) is left alone.

    Raises: UserError, which names the first such key, its value, and what was expected.
    """
    for key, value in sorted(
        _leaves(config, ""), key=lambda leaf: leaf[0].count(".")
    ):  # what stands for others comes first
        kind = kind_of(key)
        if kind is not None and not kind.accepts(value):
            raise UserError(f"{key}={'null' if value is None else value}; expected {kind.expected}")
    for key in _NEEDED.get(verb, ()):
        if key in config and not OmegaConf.is_missing(config, key) and config[key] is None:
            raise UserError(f"{key}=null; expected {'a number' if key == 'n' else 'a path'}")
    if verb in _OF_ONE and not OmegaConf.is_missing(config, "model") and isinstance(config.get("model"), ListConfig):
        raise UserError(f"model={','.join(map(str, config.model))}; expected one: run {verb} for each")
    _check_together(config)


def _check_together(config: DictConfig) -> None:
    """What two values say together."""
    if config.get("fps", 0) is None and "sink" not in config:
        raise UserError(f"fps=null; expected {RATE.expected}")
    runtime = config.get("runtime")  # benchmark, which counts frames, compares several
    if isinstance(runtime, str) and "," in runtime and "frames" not in config:
        raise UserError(f"runtime={runtime}; expected one of {', '.join(RUNTIMES)}")
    mask = config.get("face_mask")  # whether prepare makes one; elsewhere a file
    if mask is not None and isinstance(mask, bool) != ("image" in config):
        raise UserError(f"face_mask={mask}; expected {'true or false' if 'image' in config else 'a PNG, or null'}")
    precision = OmegaConf.select(config, "trainer.precision")
    if config.get("module") != "teacher" and str(precision) not in ("None", "32", "32-true"):
        raise UserError(f"trainer.precision={precision}; expected 32-true: students' kernels train in float32")
    if "budget_minutes" in config and config.budget_minutes is None:
        for key, schedule in schedules(config).items():
            if schedule.progress_by == "minutes":
                raise UserError(
                    f"budget_minutes=null with {key}.progress_by=minutes, which no clock would end; expected minutes"
                )


def schedules(config: DictConfig) -> dict[str, DictConfig]:
    """What a config of distill or train trains, by the key of its schedule: parts of the recipe, or a teacher's stage."""
    module = config.get("module")
    if module == "teacher":
        return {"stage": config.stage}
    return {
        f"recipe.{part}": config.recipe[part] for part in ("face_morpher", "body_rotator") if module in (None, part)
    }


def check_accounts(config: DictConfig) -> None:
    """Refuses a logger that would ask for an account which this machine does not have, hours later or at a prompt.

    Raises: UserError.
    """
    for name, logger in (config.get("logger") or {}).items():
        online = not logger.get("offline") and os.environ.get("WANDB_MODE", "online") in ("online", "run")
        if str(logger.get("_target_", "")).endswith("WandbLogger") and online and not _has_wandb_key():
            raise UserError(
                f"logger={name} without an account on this machine; expected a key: run 'wandb login', set WANDB_API_KEY, "
                "or give logger=wandb_offline"
            )


def _has_wandb_key() -> bool:
    """Whether Weights & Biases finds a key: in the environment, or where 'wandb login' puts it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or "api.wandb.ai"
    named = os.environ.get("NETRC")
    places = [Path(named)] if named else [Path.home() / name for name in (".netrc", "_netrc")]
    for path in places:
        try:
            if netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _leaves(node: DictConfig, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in node:
        key = f"{prefix}{name!s}"
        if key == "hydra" or OmegaConf.is_missing(node, name):
            continue
        value = node[name]
        if isinstance(value, DictConfig):
            if key != "modules":  # made of the others
                yield from _leaves(value, f"{key}.")
        elif isinstance(value, ListConfig):
            yield key, OmegaConf.to_container(value, resolve=True)
        else:
            yield key, value
