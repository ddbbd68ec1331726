"""What solvers, backward modes and bounds share: they are small objects that print as the call that makes them."""


class Part:
    """A configured part of the layer; its attributes are its constructor's arguments."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"
