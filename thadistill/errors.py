"""Errors: what a user can cause, said in one line; the command line turns it into exit status 2."""

from __future__ import annotations

import math


class UserError(ValueError):
    """Something the user gave is not usable; the one-line message says what came, what was expected, what to do."""


def check_whole(name: str, value: object) -> None:
    """Refuses what cannot be a size, where a network is made from what a user gave.

    Raises: UserError, which calls the value ``name``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name}={value}; expected a whole number above 0")


def check_positive(name: str, value: object) -> None:
    """Refuses what cannot be a factor; see :func:`check_whole`.

    Raises: UserError, which calls the value ``name``.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UserError(f"{name}={value}; expected a number above 0")
