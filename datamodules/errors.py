"""The exceptions of the data package. Messages give the expected value, the given value and the correction."""


class DataError(Exception):
    """A data file, a batch or an argument cannot be used; the command line prints it without a traceback."""


class MissingDataError(DataError):
    """The path of the data does not exist."""


def check_at_least(minimum: float, **arguments: float | None) -> None:
    """Check that arguments are not below a minimum; None is accepted.

    Raises:
        DataError: an argument is below the minimum; the message names it.
    """
    for name, value in arguments.items():
        if value is not None and not value >= minimum:
            raise DataError(f"{name} must be at least {minimum:g}, got {value}.")
