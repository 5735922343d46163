"""Plugins: makes this package's sweepers and launchers known to Hydra."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

import thadistill
from thadistill.files import conf_dir
from thadistill.sweeps.launchers import JoblibLauncher, RayLauncher, SubmititLauncher
from thadistill.sweeps.search import ParetoSweeper
from thadistill.sweeps.sweepers import GridSweeper

PLUGINS = (GridSweeper, ParetoSweeper, JoblibLauncher, SubmititLauncher, RayLauncher)
NAMESPACE = "hydra_plugins"  # the only one that Hydra takes plugins of


def register() -> None:
    """Lets ``conf/hydra`` name them as ``hydra_plugins.thadistill.NAME``.

    Where a plugin of the same launcher's name is installed, Hydra would merge its schema into ``conf/hydra/launcher``.
    """
    plugins = Plugins.instance()  # which looks for those that are installed
    module = _module(f"{NAMESPACE}.{thadistill.__name__}")
    for plugin in PLUGINS:
        named = type(plugin.__name__, (plugin,), {"__module__": module.__name__})
        setattr(module, plugin.__name__, named)  # Hydra looks it up by that name when it makes one
        plugins.register(named)
    store = ConfigStore.instance()
    for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        if path.name in (store.list("hydra/launcher") or []):
            store.store(group="hydra/launcher", name=path.stem, node=OmegaConf.load(path), provider="thadistill")
            warnings.filterwarnings("ignore", message=r"(?s).*is validated against ConfigStore schema")


def _module(name: str) -> ModuleType:
    """The module of that name within the plugins' namespace, which exists where others' plugins are installed."""
    parent, _, own = name.rpartition(".")
    try:
        importlib.import_module(parent)
    except ModuleNotFoundError:
        sys.modules[parent] = package = ModuleType(parent)
        package.__path__ = []
    module = sys.modules.setdefault(name, ModuleType(name))
    setattr(sys.modules[parent], own, module)
    return module
