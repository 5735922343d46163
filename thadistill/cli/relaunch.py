"""Relaunching: lets Lightning's strategies start this command again for the other processes of a node."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def relaunchable(verb: str) -> Iterator[None]:
    """Within it, Lightning's launcher runs ``python -m thadistill.cli VERB OVERRIDES`` for each further process.

    The launcher rebuilds a command from ``sys.argv`` and the main module, which for a console script whose verb Hydra
    does not see would start something else.
    """
    program = sys.modules["__main__"]
    arguments, spec = sys.argv, program.__spec__
    sys.argv = ["thadistill", verb, *arguments[1:]]
    program.__spec__ = find_spec("thadistill.cli.__main__")
    try:
        yield
    finally:
        sys.argv, program.__spec__ = arguments, spec
