"""A run without atheris: every input of the corpus, and then inputs made of these by a seeded generator.

    python -m tests.fuzz.unguided TARGET COUNT [SEED]

An input that decodes joins those that others are made of.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from random import Random

from tests.fuzz import corpus
from tests.fuzz.law import limited_memory, obey
from tests.fuzz.mutations import MOST_NBYTES, blind
from tests.fuzz.targets import TARGETS

_MOST_INPUTS = 300  # that others are made of


class Broken(Exception):
    """An input that breaks the law: the cause is chained."""

    def __init__(self, target: str, data: bytes, where: str) -> None:
        super().__init__(f"{target}: {len(data)} bytes, stored as {where}")
        self.data = data


def run(name: str, count: int, seed: int = 0) -> Counter[bool]:
    """How many inputs decoded and how many did not. Raises Broken."""
    target, rng, found = TARGETS[name], Random(f"{name} {seed}"), Counter[bool]()
    inputs = corpus.stored(target.inputs) + corpus.stored(target.inputs, corpus.BROKEN)
    with limited_memory():
        first = list(inputs)
        for k in range(len(first) + count):
            data = first[k] if k < len(first) else target.change(rng.choice(inputs), rng, blind)
            try:
                decoded = obey(target.read, data)
            except Exception as error:
                raise Broken(name, data, str(corpus.add(target.inputs, data, corpus.BROKEN))) from error
            found[decoded] += 1
            if k >= len(first) and decoded and len(inputs) < _MOST_INPUTS and len(data) <= MOST_NBYTES:
                inputs.append(data)
    return found


def main(name: str, count: str, seed: str = "0") -> None:
    begin = time.process_time()
    found = run(name, int(count), int(seed))
    print(f"{name}: {dict(found)}, {found.total() / (time.process_time() - begin):.0f} a second")


if __name__ == "__main__":
    main(*sys.argv[1:])
