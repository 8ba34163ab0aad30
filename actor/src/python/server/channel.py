"""The server's side of the socket, and the shared file that observations and actions pass through."""

import json
import mmap
import os
import socket

try:
    import numpy as np
except ImportError:
    np = None

FRAME_BYTES_MAX = 4 * 1024 * 1024


class Refusal(Exception):
    """What was asked for cannot be done; `kind` says whose fault it is, `hint` what to do."""

    def __init__(self, kind, message, hint=None, **details):
        super().__init__(message)
        self.kind = kind
        self.hint = hint
        self.details = details


class Channel:
    def __init__(self, sock):
        self.sock = sock
        self.recv = sock.recv
        self.send = sock.sendall

    def exactly(self, count):
        data = bytearray()
        while len(data) < count:
            more = self.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def read_frame(self):
        count = int.from_bytes(self.exactly(4), "little")
        if count > FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {count} bytes is longer than {FRAME_BYTES_MAX}")
        return json.loads(self.exactly(count))

    def write_frame(self, value, before=b""):
        data = json.dumps(value, allow_nan=False).encode()
        self.send(before + len(data).to_bytes(4, "little") + data)

    def read_shared(self):
        """The shared file comes with one byte, its layout in a frame."""
        data, descriptors, _, _ = socket.recv_fds(self.sock, 1, 1)
        if not data:
            raise EOFError
        layout = self.read_frame()
        try:
            return Shared(mmap.mmap(descriptors[0], layout["bytes"]), layout)
        finally:
            os.close(descriptors[0])


class Shared:
    """Typed views of the regions of the shared file: numpy arrays, or memoryviews where there is no numpy."""

    def __init__(self, mapping, layout):
        self._bytes = memoryview(mapping)
        rows, size = layout["environments"], layout["observation_len"]
        element = layout["element"]
        action = layout["action_element"]
        self.actions = self._view(layout["actions"], action, rows, layout["action_len"])
        self.observations = self._view(layout["observations"], element, rows, size)
        self.finals = self._view(layout["finals"], element, rows, size)
        self.rewards = self._flat(layout["rewards"], "float32", rows)
        self.outcomes = self._flat(layout["outcomes"], "uint8", rows)
        self.masks = self._view(layout["masks"], "uint8", rows, layout["mask_len"])
        self.frame = self._flat(layout["frame"], "uint8", layout["frame_len"])

    def _flat(self, begin, element, count):
        code, size = {"float32": ("f", 4), "uint32": ("i", 4), "uint8": ("B", 1)}[element]
        part = self._bytes[begin : begin + count * size]
        if np is not None:
            # Indices are below 2^31, and environments expect signed numbers.
            return np.frombuffer(part, {"f": np.float32, "i": np.int32, "B": np.uint8}[code])
        return part.cast(code)

    def _view(self, begin, element, rows, columns):
        flat = self._flat(begin, element, rows * columns)
        if np is not None:
            return flat.reshape(rows, columns)
        return [flat[row * columns : (row + 1) * columns] for row in range(rows)]
