"""The samples of a run, split so that nothing is judged on what it was calibrated on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import DataError
from onnxcompress.report.schema import DataReport
from onnxcompress.runtime.made_up import made_up_samples
from onnxcompress.runtime.session import Session

MADE_UP_SAMPLES = 8
_CALIBRATION_SHARE = 4  # a quarter calibrates, the rest judges
_MOST_CALIBRATION = 200
_MOST_VALIDATION = 2000
_FEW = 100


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Disjoint parts of the data, where there is enough of it.

    Attributes:
        calibration: for activation ranges; None when the samples are made up.
        evaluation: to judge on.
        report: how they came about.
        training: to train on, calibration samples among them; None where none were given.
    """

    calibration: Dataset | None
    evaluation: Dataset
    report: DataReport
    training: Dataset | None = None


def load_samples(source: str | None, session: Session, *, calibrating: bool, seed: int) -> Samples:
    """Reads the data, or makes samples from the model's inputs if there is none.

    Args:
        source: what `--data` names.
        session: the model.
        calibrating: whether a part is wanted for calibration.
        seed: of the split and of made-up samples.

    Raises:
        DataError: the data do not fit the model.
    """
    if source is None:
        made_up = made_up_samples(session, MADE_UP_SAMPLES, seed)
        caveat = (
            "no data was given: samples were made up from the model's inputs, so the accuracy "
            "figures say that the model runs, and little more"
        )
        return Samples(
            calibration=None,
            evaluation=made_up,
            report=_report(None, made_up, calibration=0, caveat=caveat),
        )
    data = load_dataset(source, session.inputs)
    if not calibrating:
        return Samples(
            calibration=None,
            evaluation=data,
            report=_report(source, data, calibration=0, caveat=_few(data)),
        )
    count = min(len(data) // _CALIBRATION_SHARE, _MOST_CALIBRATION)
    if count == 0:
        caveat = f"{len(data)} samples are too few to split: calibrated and judged on the same"
        report = _report(source, data, calibration=len(data), caveat=caveat)
        return Samples(calibration=data, evaluation=data, report=report)
    calibration, evaluation = data.split(count, seed)
    report = _report(source, evaluation, calibration=count, caveat=_few(evaluation))
    return Samples(calibration=calibration, evaluation=evaluation, report=report)


def add_training(samples: Samples, source: str, session: Session, seed: int) -> Samples:
    """Adds samples to train on, of which some calibrate, so that all of the data can judge.

    Samples that are in the data too are left out, and the report says how many.

    Args:
        samples: all of the data, see `load_samples` without `calibrating`.
        source: what `--training` names.
        session: the model.
        seed: of the choice of calibration samples.

    Raises:
        DataError: the samples do not fit the model, or all of them are in the data.
    """
    training = load_dataset(source, session.inputs)
    judged_on = set(samples.evaluation.digests())
    kept = [at for at, each in enumerate(training.digests()) if each not in judged_on]
    if not kept:
        raise DataError(f"{source}: all its samples are in --data, on which the result is judged")
    left_out = len(training) - len(kept)
    training = training.take(kept)
    calibration = training
    if len(training) > _MOST_CALIBRATION:
        calibration, _ = training.split(_MOST_CALIBRATION, seed)
    report = replace(
        samples.report,
        calibration_samples=len(calibration),
        training_samples=len(training),
        caveat=samples.report.caveat,
    )
    if left_out:
        leak = f"{left_out} samples of --training are in --data too and were left out"
        report = replace(report, caveat=f"{report.caveat}; {leak}" if report.caveat else leak)
    return replace(samples, calibration=calibration, training=training, report=report)


def split_off_validation(samples: Samples, seed: int) -> tuple[Dataset, Samples]:
    """Sets half of the evaluation samples aside to choose by, so that the rest judge the choice.

    Args:
        samples: as `load_samples` gives them.
        seed: of the split.

    Returns:
        The samples to choose by, and the others; both the same, with a caveat, where the samples
        are made up or too few.
    """
    report, evaluation = samples.report, samples.evaluation
    count = min(len(evaluation) // 2, _MOST_VALIDATION)
    if samples.calibration in (None, evaluation) or count == 0:
        same = "rounds were tested on the samples that the result is judged on"
        caveat = f"{report.caveat}; {same}" if report.caveat else same
        report = replace(report, validation_samples=len(evaluation), caveat=caveat)
        return evaluation, replace(samples, report=report)
    validation, rest = evaluation.split(count, seed)
    report = replace(
        report,
        evaluation_samples=len(rest),
        validation_samples=count,
        caveat=_few(rest),
    )
    return validation, replace(samples, evaluation=rest, report=report)


def _few(data: Dataset) -> str | None:
    if len(data) >= _FEW:
        return None
    return f"judged on {len(data)} samples only; mind the interval of the drop"


def _report(
    source: str | None, evaluation: Dataset, *, calibration: int, caveat: str | None
) -> DataReport:
    return DataReport(
        source=source,
        labelled=evaluation.has_labels,
        calibration_samples=calibration,
        evaluation_samples=len(evaluation),
        caveat=caveat,
    )
