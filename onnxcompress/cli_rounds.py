"""The options of `compress` that prune in rounds."""

from __future__ import annotations

import argparse
from pathlib import Path

from onnxcompress.cli_arguments import parse_positive
from onnxcompress.errors import RecipeError
from onnxcompress.search.schedule import Iteration, Schedule


def add_rounds(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    group = command.add_argument_group("pruning in rounds")
    group.add_argument(
        "--rounds",
        type=parse_positive,
        help="run the recipe in so many rounds, each tested, until one is over the budget",
    )
    group.add_argument(
        "--schedule",
        type=Schedule,
        choices=list(Schedule),
        metavar="{" + ",".join(each.value for each in Schedule) + "}",
        help="how the amounts of the recipe are reached (default linear)",
    )
    group.add_argument("--checkpoints", type=Path, metavar="DIR", help="keep each round here")
    group.add_argument(
        "--resume", action="store_true", help="go on behind the last round in --checkpoints"
    )


def iteration_of(arguments: argparse.Namespace) -> Iteration | None:
    """What was asked for; None without --rounds.

    Raises:
        RecipeError: options do not go together.
    """
    if arguments.rounds is None:
        for option in ("schedule", "checkpoints", "resume"):
            if getattr(arguments, option):
                raise RecipeError(f"--{option} goes with --rounds")
        return None
    return Iteration(
        rounds=arguments.rounds,
        schedule=arguments.schedule or Schedule.LINEAR,
        checkpoints=arguments.checkpoints,
        resume=arguments.resume,
    )
