"""The options that say what is measured, on which samples, and what it may cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxcompress.budget import Budget
from onnxcompress.cli_arguments import (
    parse_confidence,
    parse_drop,
    parse_judge,
    parse_keep,
    parse_positive,
    parse_shape,
    parse_split,
)
from onnxcompress.measure.metrics import METRICS

_DEFAULT_BUDGET = Budget(0.01)


class Named(argparse.Action):
    """Gathers pairs of a name and a value; a name that comes twice is a mistake."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Adds a pair."""
        del parser, option_string
        assert isinstance(values, tuple)
        name, value = values
        gathered = dict(getattr(namespace, self.dest))
        if name in gathered:
            raise argparse.ArgumentError(self, f"{name!r} was given twice")
        setattr(namespace, self.dest, {**gathered, name: value})


def add_judging(command: argparse.ArgumentParser) -> None:
    """Adds the options that `compress` and `bench` share."""
    command.add_argument(
        "--data",
        help=".npz (arrays by input name; labels, or labels.NAME for the output NAME), a folder of "
        "them, a test_data_set_* folder, or package.module:function",
    )
    command.add_argument(
        "--metric",
        help=f"{', '.join(METRICS)} or module:function (default: what fits each output and the "
        "labels)",
    )
    command.add_argument(
        "--judge",
        type=parse_judge,
        action=Named,
        default={},
        metavar="NAME[=KIND|METRIC]",
        help="judge this output, by what suits it or as told behind the last '='; repeat for more",
    )
    command.add_argument(
        "--confidence",
        type=parse_confidence,
        metavar="SHARE",
        help="of the intervals, as 95%% or 0.95 (the default); given to compress, the result must "
        "be proved: its whole interval within the budget",
    )
    add_shapes(command)
    command.add_argument("--threads", type=parse_positive, default=1, help="default 1")
    command.add_argument("--batch-size", type=parse_positive, default=1, help="default 1")
    command.add_argument("--seed", type=int, default=0, help="of every random choice (default 0)")


def judging_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_judging` asked, as arguments of the API."""
    return {
        "data": arguments.data,
        "metric": arguments.metric,
        "judge_outputs": tuple(arguments.judge.items()),
        "confidence": arguments.confidence,
        "shapes": arguments.shapes,
        "threads": arguments.threads,
        "batch_size": arguments.batch_size,
        "seed": arguments.seed,
    }


def add_budget(command: argparse.ArgumentParser) -> None:
    """Adds what a result may cost."""
    budget = command.add_mutually_exclusive_group()
    budget.add_argument(
        "--max-drop",
        type=parse_drop,
        metavar="DROP",
        help="largest drop of the metric, as 1%%, 0.01 or '1 point' (default 1%%)",
    )
    budget.add_argument(
        "--keep",
        type=parse_keep,
        metavar="SHARE",
        help="least share of the original's metric that is left, as 99%% or 0.99",
    )


def budget_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_budget` asked, as arguments of the API."""
    drop: Budget = arguments.max_drop or _DEFAULT_BUDGET
    keep: Budget | None = arguments.keep
    return {"max_drop": drop.value, "keep": keep.value if keep else None}


def add_splitting(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds how data are split."""
    command.add_argument(
        "--split",
        type=parse_split,
        metavar="FIT/CHOOSE/JUDGE",
        help="how much of --data fits, chooses and judges (default 50/20/30; with --training "
        "CHOOSE/JUDGE, 40/60)",
    )
    command.add_argument(
        "--group-by",
        metavar="NAME",
        help="keep samples of equal value in this array of --data (speaker, document, film) on one "
        "side of the split",
    )


def add_shapes(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds the sizes of inputs."""
    command.add_argument(
        "--shapes",
        type=parse_shape,
        action=Named,
        default={},
        metavar="NAME=1x3x640x640",
        help="the shape of an input whose axes the model leaves open, for made-up samples; repeat "
        "for more",
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Adds the report as a file."""
    command.add_argument("--json", type=Path, metavar="REPORT.json", help="also write the report")
