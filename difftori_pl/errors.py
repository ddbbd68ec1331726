"""Exceptions of the package; each message states what was expected, what was given and what to change."""


class DiffTORIError(Exception):
    """Base class of all errors that a user can cause; the command line prints them without a traceback."""


class ShapeError(DiffTORIError, ValueError):
    """A tensor has the wrong shape."""


class ConfigurationError(DiffTORIError, ValueError):
    """Arguments or parts are invalid or do not fit together."""


class UsageError(DiffTORIError):
    """An argument of a command, or a value in a configuration, does not exist or has the wrong type."""


class CheckpointError(DiffTORIError, ValueError):
    """A checkpoint cannot be read or does not fit the model or the task."""


class DivergenceError(DiffTORIError, ArithmeticError):
    """Training repeatedly produced NaN or infinity."""


class NotFiniteError(DiffTORIError, ArithmeticError):
    """An observation or an action of a deployed policy is NaN or infinite."""


class ExportError(DiffTORIError):
    """A policy, or a part of one, cannot be exported."""


class MissingPackageError(DiffTORIError, ImportError):
    """An optional package is not installed; the message names the extra to install."""
