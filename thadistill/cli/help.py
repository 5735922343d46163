"""Help: what ``thadistill`` and ``thadistill VERB --help`` print, read from the comments of conf/VERB.yaml.

A verb's config begins with what it does, examples and keys of nested groups; its own keys and its defaults list carry a
comment each. No config is composed and nothing heavy imported.
"""

from __future__ import annotations

import re
from pathlib import Path

from thadistill.files import conf_dir

VERBS = (
    *("assets", "prepare", "cache", "train", "distill", "evaluate", "benchmark"),
    *("animate", "drive", "export", "serve"),
)
_FLAGS = """Flags:
  --cfg job [--resolve]  print the whole config that the command would run with, and run nothing
  -m                     a sweep: every combination of values between commas; hydra/launcher=joblib|submitit|ray
  --config-dir DIR       a folder of your own configs, laid out as conf/: recipe/mine.yaml is recipe=mine
  --hydra-help           Hydra's own flags"""
_KEY = re.compile(r"(?P<key>\w+): (?P<value>.*?)(?:\s+# (?P<about>.*))?$")
_GROUP = re.compile(r"  - (?:override |optional )?(?P<key>[\w/]+): (?P<value>.*?)(?:\s+# (?P<about>.*))?$")
_WIDTH = 18  # of a key's column


def usage() -> str:
    """What ``thadistill`` alone prints."""
    conf = conf_dir()
    # "# thadistill VERB: what it does; more of it"
    heads = {verb: (conf / f"{verb}.yaml").read_text().partition("\n")[0] for verb in VERBS}
    lines = [f"  {verb:<10} {head.partition(': ')[2].partition(';')[0]}" for verb, head in heads.items()]
    return "\n".join(
        [
            "usage: thadistill VERB [key=value ...]",
            "",
            *lines,
            "",
            "thadistill VERB --help lists its keys, --cfg job prints its configuration, -m sweeps over values.",
            "The main job, on a sample character with real weights: thadistill distill",
            "",
            "Completion of verbs, keys and names, in this shell or from ~/.bashrc (fish: install=fish):",
            '  eval "$(thadistill --shell-completion install=bash)"',
            "thadistill --version prints the version.",
        ]
    )


def help_of(verb: str) -> str:
    """What ``thadistill VERB --help`` prints."""
    conf = conf_dir()
    head, groups, keys = _read(conf / f"{verb}.yaml", conf)
    lines = [*head, "", "Keys (key=value):"]
    lines += [f"  {key:<{_WIDTH}} {about}" for key, about in keys.items() if about]
    if groups:
        lines += ["", "Groups (group=name):"]
    for group, about in groups.items():
        names = sorted(
            path.stem for path in (conf / group).glob("*.yaml") if path.stem != "folder" or group == "triples"
        )
        lines.append(f"  {group:<{_WIDTH}} {about + ': ' if about else ''}{', '.join(names)}")
    return "\n".join([*lines, "", _FLAGS])


def _read(path: Path, conf: Path) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The head of a config, and what it and those that it begins with say of their groups and keys."""
    head: list[str] = []
    groups: dict[str, str] = {}
    keys: dict[str, str] = {}
    at_top = True
    for line in path.read_text().splitlines():
        if at_top and line.startswith("#"):
            if not line.startswith("# @"):
                head.append(line[2:])
            continue
        at_top = False
        if line in ("  - base", "  - poses"):
            _, more, own = _read(conf / f"{line[4:]}.yaml", conf)
            groups |= more
            keys |= own
        elif (group := _GROUP.match(line)) and (conf / group["key"]).is_dir() and "hydra" not in group["key"]:
            groups[group["key"]] = group["about"] or groups.get(group["key"], "")
        elif (key := _KEY.match(line)) and line[0] != " " and key["key"] not in ("defaults", "hydra"):
            value = "" if key["value"].startswith(("$", "{", "???")) or key["value"] == "null" else f" [{key['value']}]"
            keys[key["key"]] = f"{key['about']}{value}" if key["about"] else ""
    return head, groups, keys
