#!/usr/bin/env python3
"""A flame graph out of what `perf script` prints, as an SVG without scripts.

    cargo rustc --release -p springbok --no-default-features --bin springbok -- -C strip=none
    perf record -F 199 --call-graph dwarf,16384 -o perf.data target/release/springbok bench --alone --stage learner --json
    perf script -i perf.data | python3 tests/flame.py "an update" > flame.svg

The width of a box is the share of samples with that function on the stack; what stands on top of it was called by it. Stacks
begin at the first of the functions that are named with --from, if it occurs: what is below is how a thread was started.
With --only, samples without such a function do not count. Needs nothing but Python's standard library.
"""

import argparse
import html
import re
import sys

WIDTH, ROW, MARGIN = 1200, 16, 34
# Boxes that are narrower, in pixels, are left out, as are stacks that go deeper.
NARROWEST, DEEPEST = 0.8, 60


def short(name):
    """A function without its hash, the arguments of its types and the path to its crate's modules."""
    name = re.sub(r"::h[0-9a-f]{16}$|\+0x[0-9a-f]+$", "", name)
    while True:
        inner = re.sub(r"<[^<>]*>", lambda found: " as " in found.group() and keep(found.group()) or "", name)
        if inner == name:
            break
        name = inner
    parts = [part for part in name.replace("::{{closure}}", "").split("::") if part]
    return "::".join([parts[0], *parts[-2:]] if len(parts) > 3 else parts) or "?"


def keep(text):
    """Of `<A as B>`, A."""
    return text[1:-1].split(" as ")[0]


def stacks(lines):
    """Each sample as a list of functions, outermost first."""
    stack = []
    for line in lines:
        line = line.rstrip()
        if not line:
            if stack:
                yield stack[::-1]
            stack = []
        elif line[0] in " \t":
            words = line.strip().rsplit(" (", 1)[0].split(" ", 1)
            stack.append(short(words[1]) if len(words) == 2 else "?")
    if stack:
        yield stack[::-1]


def cut(stack, begin):
    for at, name in enumerate(stack):
        if any(mark in name for mark in begin):
            return stack[at:], True
    return stack, False


class Node:
    def __init__(self):
        self.samples, self.callees = 0, {}

    def add(self, stack):
        node = self
        node.samples += 1
        for name in stack[:DEEPEST]:
            node = node.callees.setdefault(name, Node())
            node.samples += 1


def boxes(node, left, depth, scale):
    for name, callee in sorted(node.callees.items()):
        width = callee.samples * scale
        if width >= NARROWEST:
            yield name, left, depth, width, callee.samples
            yield from boxes(callee, left, depth + 1, scale)
        left += width


def colour(name):
    key = sum(ord(letter) * (at + 7) for at, letter in enumerate(name))
    if name.startswith("springbok"):
        return f"hsl(150,45%,{62 + key % 12}%)"
    return f"hsl({20 + key % 30},75%,{66 + key % 12}%)"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("title")
    parser.add_argument("--from", dest="begin", action="append", default=[])
    parser.add_argument("--only", action="store_true")
    parser.add_argument("--text", action="store_true", help="the functions by their own and all samples, no picture")
    arguments = parser.parse_args()
    root, own = Node(), {}
    for stack in stacks(sys.stdin):
        stack, found = cut(stack, arguments.begin)
        if found or not arguments.only:
            root.add(stack)
            own[stack[-1]] = own.get(stack[-1], 0) + 1
    if not root.samples:
        sys.exit("no samples")
    if arguments.text:
        for name, samples in sorted(own.items(), key=lambda item: -item[1])[:40]:
            print(f"{100 * samples / root.samples:5.1f} %  {name}")
        return
    drawn = list(boxes(root, 0.0, 0, WIDTH / root.samples))
    height = MARGIN + ROW * (1 + max(depth for _, _, depth, _, _ in drawn))
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">')
    print('<rect width="100%" height="100%" fill="#fff"/>')
    print(f'<text x="6" y="20" font-size="14">{html.escape(arguments.title)} ({root.samples} samples)</text>')
    for name, left, depth, width, samples in drawn:
        top = height - ROW * (depth + 1)
        share = 100 * samples / root.samples
        label = html.escape(name)
        print(f'<g><title>{label}: {share:.1f} %</title><rect x="{left:.1f}" y="{top}" width="{max(width - 0.3, 0.3):.1f}" '
              f'height="{ROW - 1}" fill="{colour(name)}"/>', end="")
        room = int(width / 6.7)
        if room >= 4:
            text = html.escape(name if len(name) <= room else name[: room - 1] + "\u2026")
            print(f'<text x="{left + 2:.1f}" y="{top + 11}">{text}</text>', end="")
        print("</g>")
    print("</svg>")


main()
