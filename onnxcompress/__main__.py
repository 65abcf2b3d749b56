"""The program: `onnxcompress`, or `python -m onnxcompress`."""

from __future__ import annotations

import sys
from typing import NoReturn

from onnxcompress.cli_streams import hold_descriptors
from onnxcompress.supervisor import supervised


def main() -> NoReturn:
    """Runs the command line in a process that is watched, and exits with its code."""
    hold_descriptors()
    sys.exit(supervised(_work))


def _work() -> int:
    from onnxcompress.cli import run  # here, so that the process that watches loads nothing of it

    return run()


if __name__ == "__main__":
    main()
