"""Command line: ``thadistill VERB [key=value ...]``, each verb a Hydra app."""

from thadistill.cli.app import main

__all__ = ["main"]
