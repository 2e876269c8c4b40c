"""Has anything arrived at a socket? Asked before every dot, so asked without letting go of the interpreter.

`select.poll` lets other threads run meanwhile, although it returns at once; getting the interpreter back then takes
longer than everything else about a message.
"""

import ctypes

_POLLIN = 1


class _PollDescriptor(ctypes.Structure):
    """`struct pollfd` of poll(2)."""

    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


_poll = ctypes.PyDLL(None).poll
_poll.argtypes = (ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int)


class Arrival:
    """Watches one socket."""

    def __init__(self, descriptor: int) -> None:
        """Take the file descriptor of an open socket; it must not be asked after the socket was closed."""
        self._watched = _PollDescriptor(descriptor, _POLLIN, 0)
        self._address = ctypes.addressof(self._watched)

    def has_come(self) -> bool:
        """Say whether there is something to read, or the end of the connection."""
        return bool(_poll(self._address, 1, 0) > 0)
