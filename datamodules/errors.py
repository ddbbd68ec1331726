"""The exceptions of the data side. Each message says what was expected, what came and what to change."""


class DataError(Exception):
    """A data file or a batch that cannot be used; the command line prints it without a traceback."""
