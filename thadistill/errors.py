"""Errors: what a user can cause, said in one line; the command line turns it into exit status 2."""


class UserError(ValueError):
    """Something the user gave is not usable; the one-line message says what came, what was expected, what to do."""
