"""Which samples go where: a seeded choice that keeps groups together and the mix of labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError

Indices = NDArray[np.int64]

_TRIES = 16
"""Orders in which groups are dealt out, until one ends in the numbers that were asked for."""


@dataclass(frozen=True)
class Shares:
    """How much of the data each part gets.

    Attributes:
        fit: to calibrate, refit and train; 0 where other samples are given for that.
        choose: to choose by.
        judge: that only the final verdict sees.
    """

    fit: float = 0.5
    choose: float = 0.2
    judge: float = 0.3

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            DataError: they are negative, zero where they must not be, or do not add up to 1.
        """
        numbers = (self.fit, self.choose, self.judge)
        if not all(math.isfinite(each) for each in numbers) or not math.isclose(
            sum(numbers), 1, abs_tol=1e-6
        ):
            raise DataError(f"shares of a split add up to 100, or to 1; {self} do not")
        if self.fit < 0 or min(self.choose, self.judge) <= 0:
            raise DataError(f"each share of a split is above 0; those of {self} are not")

    @classmethod
    def parse(cls, text: str) -> Shares:
        """Reads `50/20/30`, or `40/60` for the last two; or shares of 1.

        Raises:
            DataError: it is neither.
        """
        try:
            numbers = [float(each) for each in text.split("/")]
        except ValueError:
            numbers = []
        if len(numbers) not in (2, 3):
            raise DataError(
                f"{text!r} is no split; write 50/20/30 to fit, to choose and to judge, or with "
                "training samples 40/60 to choose and to judge"
            )
        if len(numbers) == 3 and numbers[0] == 0:
            raise DataError(f"{text!r} leaves nothing to fit")
        if sum(numbers) > 1.5:
            numbers = [each / 100 for each in numbers]
        return cls(*numbers) if len(numbers) == 3 else cls(0.0, *numbers)

    def __str__(self) -> str:
        """As `parse` reads it."""
        numbers = (self.fit, self.choose, self.judge) if self.fit else (self.choose, self.judge)
        return "/".join(f"{100 * each:.6g}" for each in numbers)

    def counts(self, total: int, most_to_choose: int | None = None) -> tuple[int, int, int]:
        """How many of `total` samples each part gets: the nearest numbers, none of them zero.

        Args:
            total: samples, at least one for each part.
            most_to_choose: a bound of that part; what is over it judges.
        """
        shares = np.array([self.fit, self.choose, self.judge]) * total
        counts = np.floor(shares + 1e-9).astype(np.int64)
        # The last part is the first to be rounded up: what judges is never the worse for it.
        order = sorted(range(3), key=lambda part: (counts[part] - shares[part], -part))
        counts[order[: total - int(counts.sum())]] += 1
        for part in np.flatnonzero((counts == 0) & (shares > 0)):
            counts[int(counts.argmax())] -= 1
            counts[part] = 1
        fit, choose, judge = (int(each) for each in counts)
        over = 0 if most_to_choose is None else max(choose - most_to_choose, 0)
        return fit, choose - over, judge + over


def stratified_indices(
    total: int, chosen: int, labels: np.ndarray | None, rng: np.random.Generator
) -> Indices:
    """Chooses `chosen` of `total` samples at random, each label in proportion.

    Args:
        total: number of samples.
        chosen: how many to choose.
        labels: one for each sample, or None to choose without regard to them.
        rng: the source of randomness.

    Returns:
        Sorted indices.
    """
    if labels is None:
        return np.sort(rng.permutation(total)[:chosen])
    _, label_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    quotas = _quotas(counts, chosen, rng)
    picked = [
        rng.permutation(np.flatnonzero(label_of == label))[:quota]
        for label, quota in enumerate(quotas)
    ]
    return np.sort(np.concatenate(picked)).astype(np.int64)


def joined_groups(*keys: Iterable[object]) -> Indices:
    """The group of each sample, where samples that agree in any key are in one group.

    Args:
        *keys: each gives a hashable value for every sample.

    Returns:
        Numbers of groups, counted in the order of their first samples.
    """
    parents: list[int] = []

    def root(sample: int) -> int:
        while parents[sample] != sample:
            parents[sample] = parents[parents[sample]]
            sample = parents[sample]
        return sample

    for key in keys:
        first: dict[object, int] = {}
        for sample, value in enumerate(key):
            if sample == len(parents):
                parents.append(sample)
            one, other = root(first.setdefault(value, sample)), root(sample)
            parents[max(one, other)] = min(one, other)
    roots = np.array([root(sample) for sample in range(len(parents))], np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def split_groups(
    groups: Indices, counts: Sequence[int], labels: np.ndarray | None, rng: np.random.Generator
) -> list[Indices]:
    """Splits samples into parts, no group being in two of them.

    Parts are filled from the last to the first, which gets what is left. As far as groups allow,
    each has as many samples as asked for and the mix of labels of the whole: exactly (by largest
    remainder) where all groups are single samples.

    Args:
        groups: the group of each sample, from 0.
        counts: samples in each part, all of the samples together.
        labels: one for each sample, or None to split without regard to them.
        rng: the source of randomness.

    Returns:
        Sorted indices of each part; none is empty that was to have samples.

    Raises:
        ValueError: there are fewer groups than parts.
    """
    wanted = [part for part, count in enumerate(counts) if count]
    sizes = np.bincount(groups)
    if len(sizes) < len(wanted):
        raise ValueError(f"{len(sizes)} groups cannot be in {len(wanted)} parts")
    strata = np.zeros(len(groups), np.int64)
    if labels is not None:
        strata = np.unique(labels, return_inverse=True)[1]
    mixes = _mixes(groups, strata)
    best: list[Indices] = []
    least = len(groups) + 1
    for _ in range(_TRIES):
        part_of = _assigned(sizes, mixes, counts, rng)[groups]
        parts = [np.flatnonzero(part_of == part) for part in range(len(counts))]
        off = sum(abs(len(part) - count) for part, count in zip(parts, counts, strict=True))
        if off < least:
            best, least = parts, off
        if off == 0:
            break
    return best


_Mix = tuple[Indices, Indices]
"""The labels of a group, and how many samples have each."""


def _mixes(groups: Indices, strata: Indices) -> list[_Mix]:
    """The mix of labels of each group."""
    width = int(strata.max()) + 1
    pairs, counts = np.unique(groups * width + strata, return_counts=True)
    cuts = np.flatnonzero(np.diff(pairs // width)) + 1
    return list(zip(np.split(pairs % width, cuts), np.split(counts, cuts), strict=True))


def _assigned(
    sizes: Indices, mixes: Sequence[_Mix], counts: Sequence[int], rng: np.random.Generator
) -> Indices:
    """The part of each group."""
    wanted = [part for part, count in enumerate(counts) if count]
    part_of = np.full(len(sizes), wanted[0], np.int64)
    # As a random order of the samples meets them: large ones early, which small ones fill up.
    free = np.argsort(rng.exponential(size=len(sizes)) / sizes)
    for at, part in reversed(list(enumerate(wanted[1:], 1))):
        taken = _filled(free, sizes, mixes, counts[part], most=len(free) - at, rng=rng)
        part_of[taken] = part
        free = free[~np.isin(free, taken)]
    return part_of


def _filled(
    free: Indices,
    sizes: Indices,
    mixes: Sequence[_Mix],
    count: int,
    *,
    most: int,
    rng: np.random.Generator,
) -> Indices:
    """Groups for a part of about `count` samples, `most` groups at most and one at least."""
    available: dict[int, int] = {}
    for group in free:
        for label, number in zip(*mixes[group], strict=True):
            available[int(label)] = available.get(int(label), 0) + int(number)
    labels = sorted(available)
    quotas = _quotas(np.array([available[each] for each in labels]), count, rng)
    need = dict(zip(labels, map(int, quotas), strict=True))
    taken: list[int] = []
    short = count
    for group in free:
        if len(taken) == most or short == 0:
            break
        found = [(int(label), int(number)) for label, number in zip(*mixes[group], strict=True)]
        nearer = sum(abs(need[each]) - abs(need[each] - number) for each, number in found)
        if sizes[group] <= short and nearer > 0:
            taken.append(int(group))
            short -= int(sizes[group])
            for label, number in found:
                need[label] -= number
    # What labels do not allow, or only groups that are too large: the number comes first.
    chosen = set(taken)
    rest = sorted((int(each) for each in free if each not in chosen), key=lambda each: -sizes[each])
    for group in rest:
        if len(taken) < most and sizes[group] <= short:
            taken.append(group)
            short -= int(sizes[group])
    chosen = set(taken)
    least = next((each for each in reversed(rest) if each not in chosen), None)
    if least is not None and len(taken) < most and (not taken or sizes[least] < 2 * short):
        taken.append(least)
    return np.array(taken, np.int64)


def _quotas(counts: Indices, chosen: int, rng: np.random.Generator) -> Indices:
    """How many of each label are among `chosen`, by largest remainder, ties at random."""
    shares = counts * chosen / counts.sum()
    quotas: Indices = np.floor(shares).astype(np.int64)
    order = np.lexsort((rng.random(len(counts)), quotas - shares))
    quotas[order[: chosen - int(quotas.sum())]] += 1
    return quotas
