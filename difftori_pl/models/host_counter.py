"""Counters that are stored with a module and read on the host."""

from torch import Tensor


class HostCounter:
    """Keep a copy of a scalar buffer on the host, because reading the buffer would wait for the device.

    The buffer stays what checkpoints hold. It is read again only after something else has written to it or replaced it,
    such as `load_state_dict` or `to`.
    """

    def __init__(self) -> None:
        self._value = 0
        self._known: tuple[Tensor, int] | None = None

    def read(self, buffer: Tensor) -> int:
        """Return the value of the buffer, an integer scalar."""
        if self._known is None or self._known[0] is not buffer or self._known[1] != buffer._version:
            self._value = int(buffer)
            self._known = buffer, buffer._version
        return self._value

    def write(self, buffer: Tensor, value: int) -> None:
        """Set the buffer without waiting for the device."""
        buffer.fill_(value)
        self._value = value
        self._known = buffer, buffer._version
