"""Tries files with something wrong, and says what came of them.

``python -m benchmarks.fuzz --cases 20000`` tries them in a process that is begun anew where one
crashes it, takes over a minute, or fills 2 GiB. Whatever is neither done nor refused with an error
of the library is written to a folder, with its number; ``--first NUMBER --cases 1`` tries it again.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from benchmarks.fuzz.worker import case_of

SECONDS: Final = 60.0
WORKER: Final = ["-m", "benchmarks.fuzz.worker"]


@dataclass
class Found:
    """What came of the cases.

    Attributes:
        counts: by kind of file and by outcome.
        bad: of cases that are neither done nor refused, by number.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: dict[int, str] = field(default_factory=dict)

    def add(self, number: int, kind: str, outcome: str) -> None:
        """Counts a case."""
        word = outcome.partition(":")[0]
        self.counts[kind, word] += 1
        if word not in ("done", "refused"):
            self.bad[number] = f"{kind}: {outcome}"


def fuzz(first: int, last: int, folder: Path, *, seconds: float = SECONDS) -> Found:
    """Tries the cases from `first` to before `last`, each for at most so many seconds."""
    found = Found()
    while first < last:
        first = _run(first, last, folder, found, seconds)
    return found


def _run(first: int, last: int, folder: Path, found: Found, seconds: float) -> int:
    """Tries cases in one process; the number to go on with."""
    command = [sys.executable, *WORKER, str(first), str(last), str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        number, kind = first, ""
        while True:
            try:
                line = lines.get(timeout=seconds + (0 if kind else SECONDS))
            except queue.Empty:
                process.kill()
                found.add(number, kind, f"HANG: over {seconds:g} s")
                return number + 1
            if not line:
                break
            number, told = json.loads(line)
            if kind:
                found.add(number, kind, told)
                kind, number = "", number + 1
            else:
                kind = told
    if kind:
        found.add(number, kind, f"CRASH: {process.returncode}")
        return number + 1
    if number < last:
        raise RuntimeError(f"no case after {number} was tried: exit code {process.returncode}")
    return number


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table of outcomes; 1 where a case is neither done nor refused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where files go that broke something")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(options.first, options.first + options.cases, Path(folder, "case"))
    for (kind, word), count in sorted(found.counts.items()):
        print(f"{kind:12} {word:10} {count:6}")
    for number, told in sorted(found.bad.items()):
        print(f"{number}: {told[:300]}")
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            case = case_of(number)
            (options.keep / f"{number}-{case.file}").write_bytes(case.content)
    return 1 if found.bad else 0


if __name__ == "__main__":
    sys.exit(main())
