"""Errors: what a user can cause, said in one line; the command line turns it into exit status 2."""

from __future__ import annotations

import errno
import math

# of files and folders that cannot be used: what a user can mend
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG}
_LONGEST = 1000  # characters of a message, which may quote what a file holds


class UserError(ValueError):
    """Something the user gave is not usable; the one-line message says what came, what was expected, what to do.

    A message may quote files and names as they are: it is made one line here, of printable characters, and not too long.
    """

    def __init__(self, message: str) -> None:
        shown = "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in " ".join(message.split())
        )
        half = _LONGEST // 2
        super().__init__(shown if len(shown) <= _LONGEST else f"{shown[:half]} ... {shown[-half:]}")


def first_line(error: BaseException) -> str:
    """The first line of what another library's error says, or its kind where it says nothing: as a reason in a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def mistake(error: BaseException | None) -> UserError | None:
    """What of an error is the user's to mend: a UserError, a full disk, a file or folder that cannot be used; else None."""
    if isinstance(error, UserError):
        return error
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # torch.save reports a full disk in its own words
    if full or (isinstance(error, RuntimeError) and "PytorchStreamWriter failed writing" in str(error)):
        return UserError("the disk is full; what was saved is kept: make room, and the same command continues")
    if isinstance(error, OSError) and error.errno in _UNUSABLE and error.filename is not None:
        return UserError(
            f"{error.filename} cannot be used ({error.strerror}); expected a readable file or a writable folder"
        )
    return None


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
