# The whole command line of the server: takes its socket from stdin, its source text from the socket, and runs it.
import os
import socket
import sys


def _start():
    sock = socket.socket(fileno=os.dup(0))
    # Nothing that an environment reads or prints may touch the socket.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    if sys.version_info < (3, 9):
        sys.exit("Python 3.9 or later is needed, but this is %s" % sys.version.split()[0])

    import json
    import linecache
    import types

    def exactly(count):
        data = bytearray()
        while len(data) < count:
            more = sock.recv(count - len(data))
            if not more:
                sys.exit(0)
            data += more
        return bytes(data)

    for name, text in json.loads(exactly(int.from_bytes(exactly(4), "little"))):
        file = "<%s>" % name
        # Tracebacks quote lines of files that are nowhere on a disk.
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(text, file, "exec"), module.__dict__)
    sys.modules["springbok_serve"].main(sock)


_start()
