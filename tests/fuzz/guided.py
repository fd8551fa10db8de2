"""A run of one target under atheris, which keeps what reaches new code.

    python -m tests.fuzz.guided TARGET FOLDER [libFuzzer's options]

FOLDER takes what is found: `inputs`, which the next run goes on from, and what breaks the law, as `crash-` and so on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["recordio"]):
    from tests.fuzz import corpus
    from tests.fuzz.law import limited_memory, obey
    from tests.fuzz.mutations import MOST_NBYTES, blind
    from tests.fuzz.targets import TARGETS

_HANG = 60  # seconds by the clock, after which libFuzzer ends a run; `obey` measures the law's second
_OWN = 0.5  # share of the changes of bytes that are ours; the others are libFuzzer's


def _change(data: bytes, rng: Random) -> bytes:
    return blind(data, rng) if rng.random() < _OWN else bytes(atheris.Mutate(data, MOST_NBYTES))


def main(name: str, folder: str, *options: str) -> None:
    target, inputs = TARGETS[name], Path(folder, "inputs")
    inputs.mkdir(parents=True, exist_ok=True)

    with atheris.instrument_imports(include=["recordio"]):  # of what is imported on first use
        for data in corpus.stored(target.inputs)[:3]:
            obey(target.read, data)

    def one(data: bytes) -> None:
        obey(target.read, data)

    def change(data: bytes, most: int, seed: int) -> bytes:
        return target.change(data, Random(seed), _change)[:most]

    begun = [str(path) for path in (corpus.HERE / target.inputs, corpus.BROKEN / target.inputs) if path.is_dir()]
    limits = [f"-timeout={_HANG}", f"-max_len={2 * MOST_NBYTES}", "-rss_limit_mb=4096", "-len_control=0"]
    argv = [sys.argv[0], str(inputs), *begun, *limits, f"-artifact_prefix={folder}/", "-print_final_stats=1", *options]
    atheris.Setup(argv, one, custom_mutator=change)
    with limited_memory():
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
