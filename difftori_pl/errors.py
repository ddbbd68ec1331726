"""The exceptions of the package. Each message says what was expected, what came and what to change."""


class DiffTORIError(Exception):
    """Root of all errors a user of the package can cause; the command line prints it without a traceback."""


class ShapeError(DiffTORIError, ValueError):
    """A tensor has the wrong shape."""


class ConfigurationError(DiffTORIError, ValueError):
    """Parts that do not fit together, found when they are put together."""


class CheckpointError(DiffTORIError, ValueError):
    """A checkpoint that cannot be read, or that was trained for something else."""


class DivergenceError(DiffTORIError, ArithmeticError):
    """Training that meets NaN or infinity again and again."""


class NotFiniteError(DiffTORIError, ArithmeticError):
    """An observation or an action of a deployed policy is NaN or infinite."""


class ExportError(DiffTORIError):
    """A policy, or a part of one, that cannot be written as a program."""


class MissingPackageError(DiffTORIError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""
