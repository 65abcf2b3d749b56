"""The samples of a run, split so that nothing is judged on what it was made or chosen with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.given_shapes import Shapes
from onnxcompress.data.loading import load_dataset
from onnxcompress.data.splitting import Shares, joined_groups, split_groups
from onnxcompress.errors import DataError, SessionError
from onnxcompress.report.schema import DataReport
from onnxcompress.runtime.made_up import guess_notes, make_up
from onnxcompress.runtime.session import Session

MADE_UP_SAMPLES = 8

FEWEST_TO_SPLIT = 12
"""Samples that are split; of fewer, every part would be too small to say anything."""

MOST_CALIBRATION = 200

MOST_TO_CHOOSE = 2000
"""Samples to choose by, unless the user says how to split: all candidates are run on them."""

_ALL = Shares()
_WITH_TRAINING = Shares(0, 0.4, 0.6)
_FEW = 100
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Parts of the data that share no sample, where there is enough of it.

    Attributes:
        fit: to refit and train on; None when the samples are made up, or only judge.
        calibration: those of them that activation ranges are taken from; None likewise.
        choosing: to choose by.
        judging: that only the final verdict sees.
        report: how they came about.
    """

    fit: Dataset | None
    calibration: Dataset | None
    choosing: Dataset
    judging: Dataset
    report: DataReport

    @property
    def are_separate(self) -> bool:
        """Whether what chooses does not judge."""
        return self.choosing is not self.judging

    def report_on_choosing(self) -> DataReport:
        """How they came about, where numbers stand on the part to choose by."""
        return replace(
            self.report,
            evaluation_samples=len(self.choosing),
            validation_samples=0,
            choosing_samples=0,
            caveat=_few(self.choosing) if self.are_separate else self.report.caveat,
        )


def load_samples(
    source: str | None,
    session: Session,
    *,
    seed: int,
    training: str | None = None,
    split: Shares | None = None,
    group_by: str | None = None,
    shapes: Shapes | None = None,
) -> Samples:
    """Reads the data and splits it, or makes samples from the model's inputs if there is none.

    Samples with the same content, or of the same group, are never in two parts. The parts have
    about the same mix of labels, if each sample has one integer or text. Fewer samples than
    `FEWEST_TO_SPLIT` are not split: all of them fit, choose and judge.

    Args:
        source: what `--data` names.
        session: the model.
        seed: of the split and of made-up samples.
        training: what `--training` names: all of the part to fit, so that `source` is split in two.
            Samples that are in the data too, or of a group that is, are left out.
        split: how much goes where; None for the default.
        group_by: the array whose values are groups.
        shapes: of inputs, for made-up samples.

    Raises:
        DataError: the data do not fit the model, cannot be split so, or options do not go together.
    """
    if source is None:
        _check_no_data(training, split, group_by)
        return _made_up(session, seed, shapes)
    if shapes:
        raise DataError("shapes are for made-up samples (--shapes), and the data have their own")
    loaded = _load(source, session, group_by)
    data = loaded.data
    shares = _shares(split, training)
    fit = None
    left_out = 0
    not_finite = loaded.left_out
    if training is not None:
        extra = _load(training, session, group_by)
        not_finite += extra.left_out
        fit, left_out = _trained_on(extra.data, data, training)
    parts, groups, caveat = _split(data, shares, seed, bounded=split is None, group_by=group_by)
    if fit is None:
        fit = parts[0] if parts else data
    choosing, judging = parts[-2:] if parts else (data, data)
    calibration = fit
    if len(fit) > MOST_CALIBRATION:
        calibration, _ = fit.split(MOST_CALIBRATION, seed)
    if left_out:
        leak = f"{left_out} samples of --training are in --data too and were left out"
        caveat = f"{caveat}; {leak}" if caveat else leak
    report = replace(
        _report(source, judging, data, caveat),
        left_out=not_finite,
        one_at_a_time=loaded.one_at_a_time,
        calibration_samples=len(calibration),
        validation_samples=len(choosing),
        choosing_samples=len(choosing),
        training_samples=len(fit),
        groups=groups,
    )
    return Samples(
        fit=fit, calibration=calibration, choosing=choosing, judging=judging, report=report
    )


def load_to_judge(
    source: str | None, session: Session, *, seed: int, shapes: Shapes | None = None
) -> Samples:
    """Reads the data, all of which judges, or makes samples from the model's inputs.

    Args:
        source: what `--data` names.
        session: the model.
        seed: of made-up samples.
        shapes: of inputs, for made-up samples.

    Raises:
        DataError: the data do not fit the model, or options do not go together.
    """
    if source is None:
        return _made_up(session, seed, shapes)
    if shapes:
        raise DataError("shapes are for made-up samples (--shapes), and the data have their own")
    loaded = _load(source, session, None)
    data = loaded.data
    report = replace(
        _report(source, data, data, _few(data)),
        left_out=loaded.left_out,
        one_at_a_time=loaded.one_at_a_time,
    )
    return Samples(fit=None, calibration=None, choosing=data, judging=data, report=report)


def data_notes(report: DataReport) -> Iterator[str]:
    """What the reader should know of the samples, a sentence each."""
    if report.caveat:
        yield report.caveat
    if report.labels_from:
        yield f"{report.labels_from!r} in the data was taken as labels"
    if report.left_out:
        shown = "; ".join(report.left_out[:_MOST_NAMED])
        left = len(report.left_out) - _MOST_NAMED
        more = f"; and {left} more" if left > 0 else ""
        yield f"{len(report.left_out)} samples of the data were left out: {shown}{more}"
    if report.one_at_a_time:
        yield (
            "the model says that it takes any number of samples at once, but runs on one alone: "
            "calibrated, judged and timed so"
        )
    for name in report.unused:
        yield f"{name!r} in the data is no input and was not used"
    yield from guess_notes(report.shapes_guessed)


def _check_no_data(training: str | None, split: Shares | None, group_by: str | None) -> None:
    if training is not None:
        raise DataError("training samples alone prove nothing: judge on others with --data")
    for option, value in (("--split", split), ("--group-by", group_by)):
        if value is not None:
            raise DataError(f"{option} says how to split the data, and none was given (--data)")


def _made_up(session: Session, seed: int, shapes: Shapes | None) -> Samples:
    made_up = make_up(session, MADE_UP_SAMPLES, seed, shapes)
    caveat = (
        "no data was given: samples were made up from the model's inputs, so the accuracy "
        "figures say that the model runs, and little more"
    )
    report = replace(
        _report(None, made_up.data, made_up.data, caveat), shapes_guessed=made_up.guesses
    )
    data, one_at_a_time = _as_it_runs(made_up.data, session)
    report = replace(report, one_at_a_time=one_at_a_time)
    return Samples(fit=None, calibration=None, choosing=data, judging=data, report=report)


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """Samples that the model runs on, and what had to be done for it."""

    data: Dataset
    left_out: tuple[str, ...]
    one_at_a_time: bool


def _as_it_runs(data: Dataset, session: Session) -> tuple[Dataset, bool]:
    """The samples one by one, and True, where the model runs on one and not on two.

    A graph may leave the first axis open and fix it inside, as a Reshape to [1, ...] does.
    """
    batch = next(data.batches(2))
    if batch.whole or batch.count < 2 or data.batch_size(3) != 3:
        return data, False
    try:
        session.run(batch.feeds)
    except SessionError:
        single = data.one_by_one()
        try:
            session.run(next(single.batches(1)).feeds)
        except SessionError:
            return data, False  # it fails whatever the size, which is told where it is run
        return single, True
    return data, False


def _load(source: str, session: Session, group_by: str | None) -> _Loaded:
    data = load_dataset(source, session.inputs, group_by=group_by)
    known = [output.name for output in session.outputs]
    for name in data.labelled_outputs:
        if name not in known:
            outputs = ", ".join(map(repr, known))
            raise DataError(f"{source}: 'labels.{name}' names no output; the model has {outputs}")
    data, left_out = data.finite()
    data, one_at_a_time = _as_it_runs(data, session)
    return _Loaded(data=data, left_out=left_out, one_at_a_time=one_at_a_time)


def _shares(split: Shares | None, training: str | None) -> Shares:
    if split is None:
        return _ALL if training is None else _WITH_TRAINING
    if training is not None and split.fit:
        raise DataError(
            f"with training samples the data are split in two, to choose and to judge (40/60), not "
            f"{split}"
        )
    if training is None and not split.fit:
        raise DataError(
            f"without training samples the data are split in three, to fit, to choose and to judge "
            f"(50/20/30), not {split}"
        )
    return split


def _trained_on(training: Dataset, data: Dataset, source: str) -> tuple[Dataset, int]:
    """What may be trained on, and how many samples may not since the data hold the like of them."""
    used = set(data.digests())
    alike = np.array([each in used for each in training.digests()])
    if training.groups is not None and data.groups is not None:
        _check_kinds(training.groups, data.groups)
        alike |= np.isin(training.groups, data.groups)
    if alike.all():
        raise DataError(f"{source}: all its samples are in --data, on which the result is judged")
    return training.take(np.flatnonzero(~alike)), int(alike.sum())


def _check_kinds(training: np.ndarray, data: np.ndarray) -> None:
    if (training.dtype.kind in "UST") != (data.dtype.kind in "UST"):
        raise DataError(
            f"groups are {training.dtype} in the training samples and {data.dtype} in the data"
        )


def _split(
    data: Dataset, shares: Shares, seed: int, *, bounded: bool, group_by: str | None
) -> tuple[list[Dataset], int, str | None]:
    """The parts that are not empty by intent, how many groups there are, and a caveat.

    There are no parts if the samples, or groups of them, are too few.
    """
    values = data.groups
    keys = [data.digests()] if values is None else [data.digests(), values.tolist()]
    groups = joined_groups(*keys)
    count = int(groups.max()) + 1
    purposes = ["fitted"] if shares.fit else []
    purposes += ["chosen by"]
    told = f"{', '.join(purposes)} and judged on the same"
    if len(data) < FEWEST_TO_SPLIT:
        few = f"{len(data)} samples are too few to split ({FEWEST_TO_SPLIT} are enough): {told}"
        return [], count, few
    if count <= len(purposes):
        if group_by is not None:
            raise DataError(
                f"by {group_by!r}, and what is equal in content, the data fall into {count} "
                f"group(s), too few for {len(purposes) + 1} parts that share none"
            )
        return [], count, f"the samples are copies of {count}, too few to split: {told}"
    counts = shares.counts(len(data), MOST_TO_CHOOSE if bounded else None)
    parts = split_groups(groups, counts, data.strata(), np.random.default_rng(seed))
    taken = [data.take(part) for part in parts if len(part)]
    return taken, count, _few(taken[-1])


def _few(data: Dataset) -> str | None:
    if len(data) >= _FEW:
        return None
    return f"judged on {len(data)} samples only; mind the interval of the drop"


def _report(source: str | None, judging: Dataset, data: Dataset, caveat: str | None) -> DataReport:
    labels = data.labels_name
    return DataReport(
        source=source,
        labelled=data.has_labels or bool(data.labelled_outputs),
        calibration_samples=0,
        evaluation_samples=len(judging),
        caveat=caveat,
        unused=data.unused,
        labels_from=None if labels == "labels" else labels,
    )
