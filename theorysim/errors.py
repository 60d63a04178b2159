"""The one exception for input that a user can mend; the command line prints it as one line and exits with 2."""


class InputError(ValueError):
    """Bad input. The message is one line that names the parameter, its value and what is allowed."""


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)
