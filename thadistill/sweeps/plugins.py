"""Plugins: makes this package's sweepers and launchers known to Hydra."""

from __future__ import annotations

import warnings

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from thadistill.files import conf_dir
from thadistill.sweeps.launchers import JoblibLauncher, RayLauncher, SubmititLauncher
from thadistill.sweeps.search import ParetoSweeper
from thadistill.sweeps.sweepers import GridSweeper


def register() -> None:
    """Lets ``conf/hydra`` name them as ``hydra_plugins.thadistill.NAME``: Hydra takes plugins of that namespace only.

    Where a plugin of the same launcher's name is installed, Hydra would merge its schema into ``conf/hydra/launcher``.
    """
    plugins = Plugins.instance()
    for plugin in (GridSweeper, ParetoSweeper, JoblibLauncher, SubmititLauncher, RayLauncher):
        plugins.register(type(plugin.__name__, (plugin,), {"__module__": "hydra_plugins.thadistill"}))
    store = ConfigStore.instance()
    for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        if path.name in (store.list("hydra/launcher") or []):
            store.store(group="hydra/launcher", name=path.stem, node=OmegaConf.load(path), provider="thadistill")
            warnings.filterwarnings("ignore", message=r"(?s).*is validated against ConfigStore schema")
