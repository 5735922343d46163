"""Plugins: makes this package's sweepers and launchers known to Hydra."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from thadistill.sweeps.launchers import JoblibLauncher, RayLauncher, SubmititLauncher
from thadistill.sweeps.search import ParetoSweeper
from thadistill.sweeps.sweepers import GridSweeper


def register() -> None:
    """Lets ``conf/hydra`` name them as ``hydra_plugins.thadistill.NAME``: Hydra takes plugins of that namespace only.

    Other plugins may be installed whose launchers have the same names; ``conf/hydra/launcher`` would be checked by theirs.
    """
    for plugin in (GridSweeper, ParetoSweeper, JoblibLauncher, SubmititLauncher, RayLauncher):
        Plugins.instance().class_name_to_class[f"hydra_plugins.thadistill.{plugin.__name__}"] = plugin
    launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in ("joblib", "submitit_local", "ray"):
        launchers.pop(f"{name}.yaml", None)
