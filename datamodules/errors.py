"""The exceptions of the data side. Each message says what was expected, what came and what to change."""


class DataError(Exception):
    """A data file or a batch that cannot be used; the command line prints it without a traceback."""


def check_at_least(minimum: float, **arguments: float | None) -> None:
    """Refuse arguments below a minimum; None is accepted.

    Raises:
        DataError: names the argument and its value.
    """
    for name, value in arguments.items():
        if value is not None and not value >= minimum:
            raise DataError(f"{name} must be at least {minimum:g}, got {value}.")
