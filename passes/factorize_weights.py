"""Weights written as products of two thinner ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.errors import RecipeError
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.students.factorize import FACTORABLE, Factored, RankChoice, factor, why_not


@dataclass(frozen=True, kw_only=True)
class FactorizeWeights(Pass):
    """MatMul(x, W)  ->  MatMul(MatMul(x, W_first), W_second), with few columns between.

    MatMul, Gemm and Conv, whose k x k kernel goes to the first of two. The product is the one of
    its rank with which the node's outputs on the calibration data change least; a stored bias takes
    up the mean of that change. Without data, the one nearest to the weight. Nodes of which two
    factors would be no smaller are left alone. Source: see `students.low_rank`.

    Attributes:
        rank: columns between the two, of each group of a Conv; None goes by `energy` or `ratio`.
        energy: the smallest rank that keeps this share of the outputs' variance; None goes by
            `ratio`.
        ratio: share of the weight's parameters that both factors are to have.
        multiple: ranks that are found are multiples of it: kernels are slow at others.
        most_lost: nodes that would lose more than this share of their outputs' variance stay.
        by_data: false counts all inputs alike, as if there were no data.
    """

    name: ClassVar[str] = "factorize-weights"
    prunes: ClassVar[bool] = True

    rank: int | None = None
    energy: float | None = None
    ratio: float = 0.5
    multiple: int = 8
    most_lost: float = 1.0
    by_data: bool = True

    def __post_init__(self) -> None:
        """Refuses options out of their range."""
        fault = None
        if self.rank is not None and self.rank < 1:
            fault = f"rank must be at least 1, not {self.rank}"
        elif self.energy is not None and not 0 < self.energy <= 1:
            fault = f"energy must be above 0 and at most 1, not {self.energy}"
        elif not 0 < self.ratio < 1:
            fault = f"ratio must be between 0 and 1, not {self.ratio}"
        elif self.rank is not None and self.energy is not None:
            fault = "rank and energy both say how much stays; give one of them"
        elif self.multiple < 1:
            fault = f"multiple must be at least 1, not {self.multiple}"
        if fault is not None:
            raise RecipeError(f"pass {self.name!r}: {fault}")

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        outermost = set(model.graph.nodes)
        by_data: dict[bool, dict[Node, RankChoice]] = {True: {}, False: {}}
        for node in query.nodes(model, WEIGHTED_OPS):
            options = self.at(node)
            reason = EXCLUDED if options is None else why_not(model, node, outermost)
            if node.op not in FACTORABLE:
                reason = "spreads its inputs over overlapping outputs"
            if reason is not None:
                edit.skip(node, reason)
                continue
            assert options is not None
            by_data[options.by_data][node] = options._choice()
        found: list[Factored] = []
        for data, choices in by_data.items():
            for each in factor(model, choices, context, by_data=data):
                if not isinstance(each, Factored):
                    edit.skip(*each)
                    continue
                options = self.at(each.node)
                assert options is not None
                if each.lost > options.most_lost:
                    edit.skip(
                        each.node,
                        f"would lose {each.lost:.1%} of its outputs' variance, more than "
                        f"most_lost={options.most_lost}",
                    )
                else:
                    found.append(each)
        for each in found:  # written last: until then the model runs as it was
            each.apply(model, edit)

    def _choice(self) -> RankChoice:
        return RankChoice(
            rank=self.rank, energy=self.energy, ratio=self.ratio, multiple=self.multiple
        )
