"""Completion: Hydra's, for a program whose first word is a verb."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from thadistill.cli.help import VERBS


def complete(arguments: Sequence[str]) -> None:
    """``--shell-completion install=SHELL`` prints what the shell evaluates; ``query=SHELL``, called by it, the words."""
    given = [re.sub(r"^(--shell-completion|-sc)=?", "", one) for one in arguments]
    kind, _, shell = next((one for one in given if one), "install=bash").partition("=")
    if kind == "query":
        words = re.match(r"\s*\S+(\s+)(\S*)(\s.*)?$", os.environ.get("COMP_LINE", ""), re.DOTALL)
        if words is None or words[3] is None:
            begun = "" if words is None else words[2]
            print("\n".join(verb for verb in VERBS if verb.startswith(begun)))
            return
        verb = words[2]
        if verb not in VERBS:
            return
        os.environ["COMP_LINE"] = f"thadistill{words[3]}"
    else:
        verb = "distill"  # what is installed asks for every verb
    import hydra

    from thadistill.cli.app import unread_help
    from thadistill.config import conf_dir

    sys.argv = ["thadistill", "-sc", f"{kind}={shell}"]
    with unread_help():
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)(lambda config: None)()
