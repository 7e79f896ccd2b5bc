"""Runs a command where no network card but the loopback is there: ``unshare --net python enclosed.py command …``.

``mpiexec`` listens on a port of all network cards, whatever it is told. In a network namespace of its own nobody
can reach that port from outside.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

_SET_FLAGS = 0x8914  # SIOCSIFFLAGS
_UP, _LOOPBACK, _RUNNING = 0x1, 0x8, 0x40

if __name__ == "__main__":
    assert ["lo"] == [name for _, name in socket.if_nameindex()], "the network namespace is not a new one"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", _UP | _LOOPBACK | _RUNNING)
        fcntl.ioctl(any_socket, _SET_FLAGS, request)
    os.execvp(sys.argv[1], sys.argv[1:])
