"""The law of structured pruning: cutting what a mask zeroed changes no output.

    strip(mask(model)) == mask(model)

for any mask that follows the dependency groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcompress.channels.groups import find_groups
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneChannels, StripPruned
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session, SessionSettings

Array = np.ndarray
Feeds = Mapping[str, Array]
Mask = Callable[[Model, RuntimeContext, int], None]
"""Zeros random slices of a model, from a seed."""

AMOUNT = 0.3
TOLERANCE = 1e-4
"""Of the largest output."""


@dataclass(frozen=True)
class Outcome:
    """What a trial of the law found.

    Attributes:
        groups: dependency groups of the model.
        skipped: weights whose channels stay, with the reasons.
        before: parameters of the masked model.
        after: parameters once it was stripped.
        error: largest difference of an output, relative to its largest value.
        noise: the same, of what onnxruntime's optimizations do to the masked model; 0 if the error
            is below the tolerance.
        effect: the same, of what the mask did to the model.
    """

    groups: int
    skipped: tuple[str, ...]
    before: int
    after: int
    error: float
    noise: float
    effect: float

    @property
    def holds(self) -> bool:
        """Whether outputs are equal, as far as rounding lets them be.

        A random mask can leave a model that multiplies rounding errors: not even its own outputs
        stay equal to 1e-4 where onnxruntime fuses nodes.
        """
        return self.error <= max(TOLERANCE, 3 * self.noise)


def whole_units(model: Model, context: RuntimeContext, seed: int) -> None:
    """The mask that `prune-channels` makes."""
    prune = PruneChannels(
        criterion=Criterion.RANDOM, amount=AMOUNT, seed=seed, multiple=1, streams=True
    )
    PassManager([prune]).run(model, context)


def loose_slices(model: Model, context: RuntimeContext, seed: int) -> None:
    """Any of a unit's slices: whatever is left decides whether the unit may go."""
    rng = np.random.default_rng(seed)
    found = find_groups(model, context)
    zeroed: dict[Constant, Array] = {}
    for group in found.groups:
        for unit in rng.permutation(group.units)[: max(1, round(AMOUNT * len(group)))]:
            for axis in group.axes:
                tensor = axis.tensor
                if (tensor, axis.axis) not in found.space.parameters or rng.random() < 0.25:
                    continue
                assert isinstance(tensor, Constant)
                values = zeroed.setdefault(tensor, tensor.values.copy())
                own = unit[(unit >= axis.start) & (unit < axis.start + axis.length)] - axis.start
                values[(slice(None),) * axis.axis + (own,)] = 0
    for tensor, values in zeroed.items():
        tensor.values = values


def try_law(
    model: Model,
    feeds: Sequence[Feeds],
    *,
    seed: int,
    mask: Mask = whole_units,
    context: RuntimeContext | None = None,
) -> Outcome:
    """Masks a copy of a model, strips it, and runs both.

    Args:
        model: is left as it is.
        feeds: inputs to compare outputs on; several batch sizes show that none was fixed.
        seed: of the mask.
        mask: how it is made.
        context: lends data; by default samples are made up.
    """
    context = context or RuntimeContext()
    masked = clone(model)
    found = find_groups(masked, context)
    mask(masked, context, seed)
    stripped = clone(masked)
    PassManager([StripPruned()]).run(stripped, context)
    assert not PassManager([StripPruned()]).run(stripped, context)[0].modified
    original, expected, actual = (_run(each, feeds) for each in (model, masked, stripped))
    error = max(map(_difference, expected, actual))
    noise = 0.0
    if error > TOLERANCE:
        plain = SessionSettings(optimize=False, prepack=False)
        noise = max(map(_difference, expected, _run(masked, feeds, plain)))
    return Outcome(
        groups=len(found.groups),
        skipped=tuple(f"{each.node.name}: {each.reason}" for each in found.skipped),
        before=masked.parameters,
        after=stripped.parameters,
        error=error,
        noise=noise,
        effect=max(map(_difference, expected, original)),
    )


def _run(
    model: Model, feeds: Sequence[Feeds], settings: SessionSettings | None = None
) -> list[Feeds]:
    session = Session(io.to_bytes(model), settings)
    return [session.run(feed) for feed in feeds]


def _difference(expected: Feeds, actual: Feeds) -> float:
    """The largest difference of any output, relative to that output's largest value."""
    assert list(expected) == list(actual)
    largest = 0.0
    for name, values in expected.items():
        other = actual[name]
        assert values.shape == other.shape, name
        scale = float(np.abs(values).max(initial=0)) or 1.0
        error = np.abs(values - other).max(initial=0) / scale
        assert np.isfinite(error), name
        largest = max(largest, float(error))
    return largest
