"""What the reader should know before relying on the numbers, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxcompress.budget import Budget, BudgetKind
from onnxcompress.ir.model import Model
from onnxcompress.judging.score import OutputScore, Score, Verdict
from onnxcompress.measure.bootstrap import CONFIDENCE
from onnxcompress.measure.intervals import IntervalKind, samples_needed
from onnxcompress.qdq.saturation_risk import SaturationRisk, integer_products
from onnxcompress.report.schema import DataReport, ModelReport

SANE_DROP = 0.1
"""On made-up samples a candidate may lose this share of the power of the outputs (10 dB)."""

_MOST_NODES = 3


def made_up_budget(budget: Budget) -> Budget:
    """What a candidate may lose on made-up samples, which are no measure of accuracy."""
    if budget.kind is BudgetKind.DROP:
        return Budget(max(budget.value, SANE_DROP))
    return Budget(SANE_DROP)


def too_few(
    original: Score, budget: Budget, samples: int, confidence: float | None
) -> Iterator[str]:
    """Says so where no result on so many samples can prove the budget."""
    limits = [each.allowed(budget) for each in original.outputs if not each.drop_is_relative]
    limit = min((each for each in limits if each > 0), default=None)
    if limit is None or samples < 2:
        return
    needed = samples_needed(limit, confidence=confidence or CONFIDENCE)
    if samples < needed:
        yield (
            f"{samples} samples to judge on cannot prove a drop of at most {limit:.3g}: {needed} "
            f"could, if no answer changes"
        )


def sentence(
    baseline: ModelReport,
    chosen: ModelReport,
    *,
    improved: bool,
    asked: bool,
    proof: Verdict | None,
    samples: DataReport,
) -> str:
    """The outcome.

    Args:
        baseline: the original.
        chosen: what was written.
        improved: whether it is better and holds the budget.
        asked: whether it is the result of a recipe, which is written whatever it is.
        proof: what the samples that judge say of the budget; None where they were made up.
        samples: that it was judged on.
    """
    size = f"{chosen.size.file_bytes / baseline.size.file_bytes:.0%} of the bytes"
    speed = f"{chosen.latency.speedup:.2f}x as fast"
    if proof is None:
        judged = "accuracy not judged: there are no data"
    else:
        low, high = chosen.score.drop_interval
        judged = (
            f"drop {chosen.score.drop:.3g} ({low:.2g} to {high:.2g}) {proof.value} on "
            f"{samples.evaluation_samples} samples"
        )
    if improved:
        runs = "runs, and is " if proof is None else ""
        return f"{chosen.name}: {runs}{speed}, {size}, {judged}"
    if asked and proof is Verdict.FAILED:
        return f"{chosen.name}: written as asked, but over the budget: {speed}, {size}, {judged}"
    return (
        f"nothing better than the original was found; wrote {chosen.name!r} ({speed}, {size}; "
        f"{judged})"
    )


def score_notes(score: Score, budget: Budget, samples: int) -> Iterator[str]:
    """What the samples cannot tell of the answer, output by output."""
    for each in score.outputs:
        yield from _of_output(each, budget, samples)


def _of_output(output: OutputScore, budget: Budget, samples: int) -> Iterator[str]:
    allowed = output.allowed(budget)
    what = f"output {output.name!r}"
    if output.problem is not None:
        yield f"{what} {output.problem}"
        return
    if output.constant_drop is not None and output.constant_drop <= allowed:
        yield (
            f"{what} of the original hardly varies on these data: a model that always answers the "
            f"same would drop {max(output.constant_drop, 0):.2g}, so they prove nothing about it"
        )
    worst = output.drop_interval[1]
    if output.drop <= allowed < worst:
        yield (
            f"{what}: the drop may be as large as {worst:.3g}, over the budget of {allowed:.3g}; "
            f"{samples} samples cannot tell, more could"
        )
    if output.interval_kind is IntervalKind.APPROXIMATE and output.drop <= allowed:
        yield f"{what}: with {samples} samples the interval of its drop is approximate"


def fusion_notes(model: Model, measured: ModelReport) -> Iterator[str]:
    """Quantization that onnxruntime does not turn into integer kernels."""
    entrances = {node.name for tensor in model.graph.inputs for node in tensor.outputs}
    unfused = [name for name in measured.surviving_qdq if name not in entrances]
    if unfused:
        left = len(unfused) - _MOST_NODES
        more = f" and {left} more" if left > 0 else ""
        names = ", ".join(unfused[:_MOST_NODES])
        yield f"onnxruntime does not fuse these into integer kernels: {names}{more}"


def portability_notes(model: Model, risks: Sequence[SaturationRisk]) -> Iterator[str]:
    """What x86 processors without VNNI make of the integer nodes, if there are any."""
    products = len(integer_products(model))
    if not products:
        return
    if not risks:
        yield "int8 sums fit on x86 without VNNI too: the same accuracy is to be expected there"
        return
    worst = max(risks, key=lambda risk: risk.worst)
    yield (
        f"on x86 without VNNI sums of two products can saturate in {len(risks)} of {products} int8 "
        f"nodes (at worst {worst.worst:.2f} times what an int16 holds, in {worst.node!r}): measure "
        "there, or use --target portable"
    )
