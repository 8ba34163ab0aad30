"""The server: answers with a specification, then takes steps until the actor goes away."""

import faulthandler
import os
import random
import signal
import sys
import traceback

from springbok_channel import Channel, Refusal, np
from springbok_factory import build, versions


def die_with_the_actor(actor):
    """Asks Linux to kill this process when the actor's thread ends; elsewhere the closed socket has to do."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return
    set_death_signal = 1

    def ask():
        prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)

    ask()
    # The kernel forgets the request at each fork.
    os.register_at_fork(after_in_child=ask)
    if os.getppid() != actor:
        os._exit(0)


def forbid_core_dumps():
    """A crash is told by its traceback; writing gigabytes first would only delay it."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass


def told(error):
    """An error as the actor gets it."""
    if isinstance(error, Refusal):
        return {"kind": error.kind, "message": str(error), "hint": error.hint, **error.details}
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    text = "".join(lines)
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    package = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    kind = "import" if package else "raised"
    return {"kind": kind, "message": message[:4000], "package": package, "traceback": text[-12000:]}


def serve(channel, run, shared):
    recv, send, step = channel.recv, channel.send, run.step
    while True:
        command = recv(1)
        if command == b"s":
            step()
            send(b"k")
        elif command == b"r":
            frame = run.render(int.from_bytes(channel.exactly(4), "little"))
            channel.write_frame(show(frame, shared), b"k")
        elif command == b"b":
            order = channel.read_frame()
            table = np.asarray(order["table"]) if np is not None else order["table"]
            steps, seconds = run.bare(table, order["seconds"])
            channel.write_frame({"steps": steps, "seconds": seconds}, b"k")
        elif not command:
            return
        else:
            raise ValueError(f"the actor sent {command!r}, which is no command")


def show(frame, shared):
    """Writes a picture into the shared file and says how large it is."""
    if frame is None:
        return None
    if np is None:
        raise Refusal("import", "pictures need numpy", package="numpy")
    frame = np.asarray(frame)
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"render() returned the shape {frame.shape}, but a picture is [height, width, 3]")
    if frame.dtype != np.uint8:
        # MinAtar's pictures are shares of 1.
        frame = (frame * 255).clip(0, 255).astype(np.uint8)
    if frame.size > len(shared.frame):
        raise ValueError(f"render() returned {frame.shape}, more than the {len(shared.frame)} bytes agreed")
    shared.frame[: frame.size] = frame.reshape(-1)
    return [int(frame.shape[0]), int(frame.shape[1])]


def frame_bytes(run):
    """Room that a picture needs; 0 if the environment cannot be watched."""
    frame = run.render(0)
    return 0 if frame is None or np is None else int(np.asarray(frame).size)


def main(sock):
    faulthandler.enable()
    forbid_core_dumps()
    # An interrupt of the whole process group is the actor's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(sock)
    run, asked = None, False
    try:
        request = channel.read_frame()
        die_with_the_actor(request["actor"])
        if request["modules"]:
            sys.path.insert(0, request["modules"])
        random.seed(request["seeds"][0])
        if np is not None:
            np.random.seed(request["seeds"][0])
        run = build(request)
        run.reset(request["seeds"])
        spec = {
            "id": request["id"],
            "observation": run.observation.spec(),
            "action": run.action.spec(),
            "action_mask": run.has_masks,
            "episode_steps_max": run.episode_steps_max(),
        }
        answer = {
            "spec": spec,
            "autoreset": run.autoreset,
            "back_end": run.back_end,
            "versions": versions(request["id"]),
            "frame_bytes": frame_bytes(run) if request["render"] else 0,
        }
        channel.write_frame({"ok": answer})
        shared = channel.read_shared()
        asked = True
        run.bind(shared)
        channel.send(b"k")
        serve(channel, run, shared)
    except (EOFError, ConnectionError):
        pass
    except BaseException as error:
        try:
            # Only a question of the loop is answered by a byte of its own.
            channel.write_frame({"error": told(error)}, b"e" if asked else b"")
        except OSError:
            pass
        leave(run, 1)
    leave(run, 0)


def leave(run, status):
    """Ends without the clean-up of the interpreter, which may wait for workers for ever."""
    try:
        if run is not None:
            run.close()
    except BaseException as error:
        print(f"closing the environment failed: {error}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(status)
