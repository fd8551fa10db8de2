"""Messages between a process and its helper: MessagePack with a length before it, file descriptors beside them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgpack

_LENGTH = struct.Struct("<I")
_AT_A_TIME = 1 << 18
_MOST_DESCRIPTORS = 16


def encode(*message: Any) -> bytes:
    data: bytes = msgpack.packb(message)
    return _LENGTH.pack(len(data)) + data


class Incoming:
    """The messages that arrive at a socket, and the descriptors that came with them, in their order."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._data = bytearray()
        self.descriptors: deque[int] = deque()

    def receive(self) -> bool:
        """Takes what has arrived; False once the other side is gone. Raises BlockingIOError, OSError."""
        data, descriptors, flags, _ = socket.recv_fds(self._socket, _AT_A_TIME, _MOST_DESCRIPTORS)
        if flags & socket.MSG_CTRUNC:  # which of the descriptors are missing, nobody can say
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.descriptors.extend(descriptors)
        self._data += data
        return bool(data)

    def messages(self) -> Iterator[list[Any]]:
        """Those that are whole."""
        begin, data = 0, self._data
        while len(data) - begin >= _LENGTH.size:
            end = begin + _LENGTH.size + _LENGTH.unpack_from(data, begin)[0]
            if len(data) < end:
                break
            message = msgpack.unpackb(bytes(data[begin + _LENGTH.size : end]), strict_map_key=False)
            begin = end
            yield message
        del data[:begin]
