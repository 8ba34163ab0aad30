"""What an environment shows and takes: from its spaces to a specification, and from its values to rows of numbers.

Spaces are told apart by the names of their classes, so an environment need not depend on Gymnasium.
"""

import array

from springbok_channel import Refusal, np

KINDS = ("Discrete", "MultiDiscrete", "MultiBinary", "Box", "Dict", "Tuple")


def kind_of(space, role):
    for cls in type(space).__mro__:
        if cls.__name__ in KINDS:
            return cls.__name__
    raise Refusal(
        "unsupported",
        f"the {role} space is {space!r}, but must be built from {', '.join(KINDS[:-1])} and {KINDS[-1]}",
        "wrap the environment so that it shows and takes one of these",
    )


def numbers(value):
    """All numbers in nested lists, or in anything that has `tolist`, in row-major order."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in numbers(part)]
    return [value]


def finite_or_none(value):
    value = float(value)
    return value if abs(value) <= 3.4028235e38 else None


def product(shape):
    total = 1
    for extent in shape:
        total *= extent
    return total


def squeezed(shape):
    return [extent for extent in shape if extent != 1]


class Leaf:
    """One array of an observation: where it is found, and where its numbers stand in the row."""

    def __init__(self, path, space, kind, begin):
        self.path, self.kind, self.begin = path, kind, begin
        name = str(getattr(space, "dtype", None) or "float32")
        self.is_bytes = kind == "MultiBinary" or (kind == "Box" and name in ("uint8", "bool"))
        self.low, self.high = [0.0], [1.0]
        if kind == "Discrete":
            self.counts, self.starts = [int(space.n)], [int(getattr(space, "start", 0))]
        elif kind == "MultiDiscrete":
            self.counts = [int(n) for n in numbers(space.nvec)]
            self.starts = starts_of(space, len(self.counts))
        elif kind == "Box":
            if name != "bool":
                self.low, self.high = numbers(space.low), numbers(space.high)
            self.shape = [int(extent) for extent in space.shape] or [1]
        else:
            n = space.n
            self.shape = [int(n)] if isinstance(n, int) else [int(extent) for extent in numbers(n)]
        self.is_one_hot = kind in ("Discrete", "MultiDiscrete")
        if self.is_one_hot:
            self.shape = [sum(self.counts)]
            offsets = [sum(self.counts[:head]) for head in range(len(self.counts))]
            self.hot = [offset - start for offset, start in zip(offsets, self.starts)]
        self.len = product(self.shape)
        self.end = begin + self.len

    def find(self, value):
        for key in self.path:
            value = value[key]
        return value

    def check(self, found, rows=()):
        """An array of the right shape: broadcasting would hide a mistake."""
        found = np.asarray(found)
        wanted = (*rows, *self.shape)
        if found.shape != wanted and squeezed(found.shape) != squeezed(wanted):
            raise ValueError(f"an observation has the shape {found.shape}, but its space says {wanted}")
        return found

    def write(self, value, row):
        found = self.find(value)
        if self.is_one_hot:
            ones = [0.0] * self.len
            for hot, n, number in zip(self.hot, range(len(self.hot)), numbers(found)):
                number = int(number)
                if not 0 <= number - self.starts[n] < self.counts[n]:
                    raise ValueError(f"an observation is {number}, outside its space")
                ones[hot + number] = 1.0
            found = ones
        if np is not None:
            row[self.begin : self.end] = (found if self.is_one_hot else self.check(found).reshape(-1))
        else:
            flat = numbers(found)
            if len(flat) != self.len:
                raise ValueError(f"an observation has {len(flat)} numbers, but its space says {self.len}")
            row[self.begin : self.end] = array.array(row.format, flat)

    def write_batch(self, value, rows):
        found = self.find(value)
        count = len(rows)
        part = rows[:, self.begin : self.end]
        if not self.is_one_hot:
            part[...] = self.check(found, (count,)).reshape(count, self.len)
            return
        found = np.asarray(found).reshape(count, len(self.counts))
        below = (found < self.starts) | (found >= np.add(self.starts, self.counts))
        if below.any():
            raise ValueError(f"an observation is {found[below.any(axis=1)][0].tolist()}, outside its space")
        part[...] = 0
        part[np.arange(count)[:, None], found + self.hot] = 1


def starts_of(space, count):
    starts = numbers(space.start) if getattr(space, "start", None) is not None else [0] * count
    return [int(start) for start in starts]


class Observation:
    def __init__(self, space):
        self.leaves = []
        self.kind = kind_of(space, "observation")
        self._collect(space, ())
        if not self.leaves:
            raise Refusal("unsupported", "the observation space has no parts", "show at least one number")
        self.len = self.leaves[-1].end
        self.is_bytes = all(leaf.is_bytes for leaf in self.leaves)
        self.shape = self.leaves[0].shape if self.kind not in ("Dict", "Tuple") else [self.len]
        only = self.leaves[0]
        if len(self.leaves) == 1 and not only.path and not only.is_one_hot and np is not None:
            self.write = self._write_array
            self.write_batch = self._write_arrays

    def _collect(self, space, path):
        kind = kind_of(space, "observation")
        if kind in ("Dict", "Tuple"):
            entries = space.spaces.items() if kind == "Dict" else enumerate(space.spaces)
            for key, part in entries:
                self._collect(part, (*path, key))
        else:
            begin = self.leaves[-1].end if self.leaves else 0
            self.leaves.append(Leaf(path, space, kind, begin))

    def spec(self):
        low = min(min(leaf.low) for leaf in self.leaves)
        high = max(max(leaf.high) for leaf in self.leaves)
        parts = []
        if self.kind in ("Dict", "Tuple"):
            parts = [{"name": ".".join(map(str, leaf.path)), "shape": leaf.shape} for leaf in self.leaves]
        return {
            "shape": self.shape,
            "element": "uint8" if self.is_bytes else "float32",
            "bounds": [finite_or_none(low), finite_or_none(high)],
            "parts": parts,
        }

    def write(self, value, row):
        for leaf in self.leaves:
            leaf.write(value, row)

    def write_batch(self, value, rows):
        for leaf in self.leaves:
            leaf.write_batch(value, rows)

    def _write_array(self, value, row):
        row[...] = self.leaves[0].check(value).reshape(-1)

    def _write_arrays(self, value, rows):
        rows[...] = self.leaves[0].check(value, (len(rows),)).reshape(rows.shape)


class Action:
    def __init__(self, space, batched_space=None):
        self.kind = kind_of(space, "action")
        self.dtype = getattr(batched_space, "dtype", None) or getattr(space, "dtype", None)
        if self.kind == "Discrete":
            self.counts, self.starts = [int(space.n)], [int(getattr(space, "start", 0))]
            self.shape = ()
        elif self.kind == "MultiDiscrete":
            self.counts = [int(n) for n in numbers(space.nvec)]
            self.starts = starts_of(space, len(self.counts))
            self.shape = tuple(getattr(space, "shape", None) or (len(self.counts),))
        elif self.kind == "MultiBinary":
            n = space.n
            self.shape = (int(n),) if isinstance(n, int) else tuple(int(extent) for extent in numbers(n))
            self.counts, self.starts = [2] * product(self.shape), [0] * product(self.shape)
        elif self.kind == "Box":
            self.counts, self.starts = [], []
            self.shape = tuple(int(extent) for extent in space.shape)
            self.low, self.high = numbers(space.low), numbers(space.high)
        else:
            raise Refusal(
                "unsupported",
                f"the action space is {space!r}, but must be Discrete, MultiDiscrete, MultiBinary or Box",
                "wrap the environment so that it takes one of these",
            )
        self.len = len(self.counts) or product(self.shape)
        self.offset = any(self.starts)

    def spec(self):
        if self.kind == "Discrete":
            return {"discrete": self.counts[0]}
        if self.kind == "Box":
            bounds = lambda values: [finite_or_none(value) for value in values]
            return {"box": {"low": bounds(self.low), "high": bounds(self.high)}}
        return {"multi_discrete": self.counts}

    def singles(self, rows):
        """One action for each environment, as the environment expects it."""
        if self.kind == "Discrete":
            start = self.starts[0]
            return [row[0] + start for row in rows.tolist()] if np is not None else [row[0] + start for row in rows]
        if np is not None:
            return list(self.batch(rows))
        lists = [row.tolist() for row in rows]
        if self.offset:
            lists = [[number + start for number, start in zip(row, self.starts)] for row in lists]
        return lists

    def batch(self, rows):
        """All actions in one array, a copy that the environment may keep."""
        actions = rows.astype(self.dtype or ("float32" if self.kind == "Box" else "int64"))
        if self.offset:
            actions += np.asarray(self.starts, dtype=actions.dtype)
        return actions.reshape(len(rows), *self.shape)
