"""Base class of solvers, backward modes and bounds."""


class Part:
    """A configured part of the layer; it prints as its constructor call.

    Its attributes are the arguments of its constructor.
    """

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"
