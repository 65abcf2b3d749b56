"""The options that bound what a model may take: memory, and time for each step of onnxruntime."""

from __future__ import annotations

import argparse
import math
from typing import Final

from onnxcompress import watching
from onnxcompress.cli_arguments import parse_size
from onnxcompress.data.memory import limit_memory, machine_bytes

_DEADLINE_SECONDS: Final = 600.0


def add_limits(command: argparse.ArgumentParser) -> None:
    """Adds the options to a command that runs models."""
    command.add_argument(
        "--memory-limit",
        type=_parse_memory,
        metavar="4GB",
        help="the most memory to take, as a share of the machine's or in bytes (default 100%%)",
    )
    command.add_argument(
        "--deadline",
        type=_parse_deadline,
        default=_DEADLINE_SECONDS,
        metavar="SECONDS",
        help="end where onnxruntime takes longer to load or run a model once "
        f"(default {_DEADLINE_SECONDS:g}; 0 for no limit)",
    )


def apply_limits(parsed: argparse.Namespace) -> None:
    """Puts this process under the limits that were asked for; commands that run no model have none.

    Where the system knows no limit of memory (macOS, Windows), nothing is limited.
    """
    if "deadline" not in parsed:
        return
    model = parsed.model if "model" in parsed else parsed.models[0]
    watching.set_deadline(parsed.deadline, str(model))
    limit_memory(parsed.memory_limit or machine_bytes())


def _parse_memory(text: str) -> int:
    return parse_size(text).of(machine_bytes())


def _parse_deadline(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds
