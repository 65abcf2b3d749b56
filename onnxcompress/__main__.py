"""The program: `onnxcompress`, or `python -m onnxcompress`."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

from onnxcompress.cli_streams import hold_descriptors
from onnxcompress.supervisor import supervised

_INTERRUPTED: Final = 130


def main() -> NoReturn:
    """Runs the command line in a process that is watched, and exits with its code."""
    hold_descriptors()
    sys.exit(supervised(_work))


def _work() -> int:
    try:
        from onnxcompress.cli import run  # here, so that who watches loads nothing of it
    except KeyboardInterrupt:
        print("onnxcompress: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return run()


if __name__ == "__main__":
    main()
