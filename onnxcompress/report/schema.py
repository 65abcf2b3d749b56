"""The report, as data: what `--json` writes. Infinite numbers become null.

`docs/report.schema.json` is made from these classes. Fields are only ever added; a change of
meaning raises `SCHEMA_VERSION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from onnxcompress.ir.edit import Skip
from onnxcompress.judging.score import Score, Verdict
from onnxcompress.measure.environment import Environment
from onnxcompress.measure.latency import Latency
from onnxcompress.measure.macs import OpCost
from onnxcompress.measure.size import Size
from onnxcompress.pass_base import PassReport
from onnxcompress.qdq.saturation_risk import SaturationRisk
from onnxcompress.runtime.ort_profile import OpTime

SCHEMA_VERSION = 1


class Status(Enum):
    """What became of a candidate."""

    CHOSEN = "chosen"
    HOLDS = "holds the budget"
    OVER_BUDGET = "over the budget"
    NOT_BETTER = "not better than the original"
    FAILED = "failed"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What the numbers stand on.

    Attributes:
        source: what was given as data; None when samples were made up.
        labelled: whether the samples have labels.
        calibration_samples: samples that activation ranges were taken from.
        evaluation_samples: other samples, on which the candidates were judged.
        caveat: how little the samples prove, where they do; else None.
        validation_samples: others again, which the result was chosen by.
        training_samples: samples to refit and train on, calibration samples among them; none of
            them is among the others, unless the caveat says so.
        choosing_samples: the same number as `validation_samples`.
        groups: how many groups the samples fall into, copies being one and those of `--group-by`;
            no group is on two sides of the split. 0 where nothing was split.
        unused: arrays of the data that are neither inputs nor labels nor groups.
        labels_from: the array that was taken as labels, if it is not called so.
        shapes_guessed: for made-up samples, a sentence for each input whose size was guessed.
        left_out: samples that hold NaN or infinite values, each with its place and what holds them.
        one_at_a_time: the model takes one sample at a time, though it leaves the batch size open.
    """

    source: str | None
    labelled: bool
    calibration_samples: int
    evaluation_samples: int
    caveat: str | None
    validation_samples: int = 0
    training_samples: int = 0
    choosing_samples: int = 0
    groups: int = 0
    unused: tuple[str, ...] = ()
    labels_from: str | None = None
    shapes_guessed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    one_at_a_time: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """One measured model.

    Attributes:
        name: the file, or the candidate's name.
        nodes: nodes in all graphs.
        parameters: elements in stored tensors.
        size: bytes, load time, peak memory.
        score: accuracy beside the baseline's, on the samples that judge where the model got so far.
        chosen_by: the same on the samples that chose, where those are others.
        oldest_onnxruntime: the oldest release that loads and runs it, of those known, as `1.16`.
        demands: what needs a later release than the oldest known, in sentences, the newest first.
        latency: time beside the baseline's, interleaved with it.
        executed_ops: operators that onnxruntime runs after its own fusions, with counts.
        surviving_qdq: QuantizeLinear and DequantizeLinear nodes that it did not fuse.
    """

    name: str
    nodes: int
    parameters: int
    size: Size
    score: Score
    latency: Latency
    executed_ops: dict[str, int]
    surviving_qdq: tuple[str, ...]
    chosen_by: Score | None = None
    oldest_onnxruntime: str | None = None
    demands: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CandidateReport:
    """One candidate: what was done, what came of it.

    Attributes:
        name: the candidate.
        status: what became of it; `reason` says why.
        recipe: its passes as TOML, clean-up included.
        passes: what each pass did.
        model: what was measured; None if it was not tried or failed.
    """

    name: str
    status: Status
    reason: str
    recipe: str
    passes: tuple[PassReport, ...]
    model: ModelReport | None


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """One round of pruning: prune, make up for it, test.

    Attributes:
        number: 1 for the first.
        share: of the recipe's amounts that was asked for, from above 0 to 1.
        zeros: the share of weights that are zero, before anything is stripped.
        parameters: elements in stored tensors of the finished model.
        file_bytes: of the finished model and its external data.
        drop: of the metric, on the samples that rounds are tested on.
        drop_interval: 95 % of it, over resampled samples.
        held: whether the drop was within the budget.
        changed: whether the round changed what the one before it left.
    """

    number: int
    share: float
    zeros: float
    parameters: int
    file_bytes: int
    drop: float
    drop_interval: tuple[float, float]
    held: bool
    changed: bool


@dataclass(frozen=True, kw_only=True)
class CompressReport:
    """What `onnxcompress compress` did.

    Attributes:
        schema_version: see this module.
        input: the model's path.
        output: the written model's path.
        written: every file that was written.
        improved: whether what was written is better than the original.
        verdict: the outcome in a sentence.
        metric: the names of the metrics.
        max_drop: the budget: the largest drop of any output.
        goal: `speed` or `size`.
        target: the processor aimed at.
        data: what the numbers stand on.
        environment: versions and processor.
        baseline: the original, measured alike.
        candidates: all of them, in the order they were tried.
        notes: what the reader should know before relying on the numbers.
        saturation: nodes of the answer that compute something else on x86 without VNNI.
        rounds: those that were run, if the recipe was run in rounds.
        proof: what the samples that judge say of the budget: proved, held or failed; None where the
            samples were made up.
        confidence: of the intervals.
        keep: the budget as the least share of the original's metric, if it was given so.
        kept_round: the one that was written; 0 if none held the budget, so that what was written is
            not pruned; None without rounds.
        oldest_onnxruntime: of what was written, see `ModelReport`.
        runtime: the release of onnxruntime that was asked for with `--runtime`, if one was.
    """

    schema_version: int
    input: str
    output: str
    written: tuple[str, ...]
    improved: bool
    verdict: str
    metric: str
    max_drop: float
    goal: str
    target: str
    data: DataReport
    environment: Environment
    baseline: ModelReport
    candidates: tuple[CandidateReport, ...]
    notes: tuple[str, ...]
    saturation: tuple[SaturationRisk, ...]
    rounds: tuple[RoundReport, ...] = ()
    kept_round: int | None = None
    proof: Verdict | None = None
    confidence: float = 0.95
    keep: float | None = None
    oldest_onnxruntime: str | None = None
    runtime: str | None = None

    @property
    def chosen(self) -> CandidateReport:
        """The candidate that was written."""
        return next(each for each in self.candidates if each.status is Status.CHOSEN)


@dataclass(frozen=True, kw_only=True)
class InspectReport:
    """What `onnxcompress inspect` found.

    Attributes:
        schema_version: see this module.
        path: the model.
        file_bytes: of the model file and its external data.
        parameters: elements in stored tensors.
        weight_bytes: bytes they take.
        nodes: nodes in all graphs.
        opset: version of the standard operator set.
        inputs: name, element type and shape of each input, in words.
        outputs: likewise.
        macs: multiply-accumulates for one sample of batch size 1.
        ops: by operator, the costliest first.
        times: where a run's time goes, if that was asked for.
        notes: what could not be counted, and why.
        oldest_onnxruntime: see `ModelReport`; `demands` likewise.
    """

    schema_version: int
    path: str
    file_bytes: int
    parameters: int
    weight_bytes: int
    nodes: int
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int
    ops: tuple[OpCost, ...]
    times: tuple[OpTime, ...]
    notes: tuple[str, ...]
    oldest_onnxruntime: str | None = None
    demands: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """What `onnxcompress bench` measured; the first model is the baseline.

    Attributes:
        schema_version: see this module.
        metric: the name of the metric.
        data: what the numbers stand on.
        environment: versions and processor.
        models: all of them, measured alike.
        notes: what the reader should know before relying on the numbers.
    """

    schema_version: int
    metric: str
    data: DataReport
    environment: Environment
    models: tuple[ModelReport, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What one precision does to one unit, told on the model's first output.

    All of it is None where the precision leaves the unit float, but for `reason`.

    Attributes:
        noise: power of the output's error over power of the output, with this unit alone
            quantized; None where outputs hold NaN or changed shape.
        sqnr: the same in dB, more being better; None where there is no error.
        sqnr_low: lower end of its 95 % interval over resampled samples; `sqnr_high` the upper.
        sqnr_without: of the model in which all but this unit is quantized, in dB; None if it was
            not asked for.
        bytes: what the file gains, negative for what it saves.
        drop: of the metric with this unit alone quantized, where it was measured.
        reason: why the precision leaves the unit float, if it does.
    """

    noise: float | None = None
    sqnr: float | None = None
    sqnr_low: float | None = None
    sqnr_high: float | None = None
    sqnr_without: float | None = None
    bytes: int | None = None
    drop: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class PrecisionReport:
    """One precision that was asked about.

    Attributes:
        name: what tells it from the others.
        recipe: the pass, as TOML.
        noise: see `Damage`, with every unit quantized; `sqnr` the same in dB.
        bytes: of the file, with every unit quantized.
    """

    name: str
    recipe: str
    noise: float | None
    sqnr: float | None
    bytes: int


@dataclass(frozen=True, kw_only=True)
class UnitReport:
    """What gets one precision: the nodes that read one weight.

    Attributes:
        nodes: their names in the cleaned-up model.
        op: the operator of the first.
        weight: the name of what they read.
        parameters: elements of it.
        damage: one for each precision, in their order.
    """

    nodes: tuple[str, ...]
    op: str
    weight: str
    parameters: int
    damage: tuple[Damage, ...]


@dataclass(frozen=True, kw_only=True)
class SensitivityReport:
    """What `onnxcompress inspect --sensitivity` found.

    Attributes:
        schema_version: see this module.
        path: the model.
        file_bytes: of the model file and its external data.
        target: the processor quantized for.
        data: what the numbers stand on.
        samples: those that noise was measured on.
        metric: the metric whose drop was measured, if one was.
        clean_up: the passes that ran first, as TOML, or nothing; node names are those after them.
        clean_bytes: of the model after them, as a file, in the opset that the precisions need.
        precisions: those asked about.
        units: the most sensitive first, by the precision that harms it most.
        skipped: nodes that no precision changes.
        notes: what the reader should know before relying on the numbers.
    """

    schema_version: int
    path: str
    file_bytes: int
    target: str
    data: DataReport
    samples: int
    metric: str | None
    clean_up: str
    clean_bytes: int
    precisions: tuple[PrecisionReport, ...]
    units: tuple[UnitReport, ...]
    skipped: tuple[Skip, ...]
    notes: tuple[str, ...]
