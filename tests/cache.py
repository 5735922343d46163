"""Cache folders for tests: empty but for what takes long to make and is kept under all that made it."""

from __future__ import annotations

from pathlib import Path


def new_cache(folder: Path, targets: Path | None = None) -> Path:
    """``folder/cache`` as a THADISTILL_CACHE, which shares the kernels with the cache in use, and target caches with others.

    ``targets``: where target caches are shared; None: they are its own.
    """
    from thadistill.files import cache_folder  # not at the top: conftest.py is read before jaxtyping's checks begin

    kernels = cache_folder() / "native"
    made = folder / "cache"
    made.mkdir(parents=True)
    for name, shared in (("native", kernels), ("targets", targets)):
        if shared is not None:
            shared.mkdir(parents=True, exist_ok=True)
            (made / name).symlink_to(shared.resolve(), target_is_directory=True)
    return made
