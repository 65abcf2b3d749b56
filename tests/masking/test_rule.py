import numpy as np
import pytest

from onnxcompress.ir.edit import Editor
from onnxcompress.masking.ranking import Computed, Scope
from onnxcompress.masking.rule import MaskRule
from onnxcompress.masking.weights import PrunableWeight, prunable_weights
from onnxcompress.passes import PruneWeights
from onnxcompress.pruning.masks import Pattern
from onnxcompress.pruning.second_order import least_important
from tests.passes.support import model_of, normal


def _weight(call: str, *shape: int) -> PrunableWeight:
    model = model_of(f"g (float x) => (float y) {{ y = {call} }}", w=normal(*shape))
    ((weight, _),) = prunable_weights(model, Editor(model), PruneWeights().at)
    return weight


def _rule(
    scope: Scope = Scope.NODE,
    pattern: Pattern | None = None,
    block_size: int = 1,
    threshold: float | None = None,
) -> MaskRule:
    return MaskRule(
        sparsity=0.5,
        scope=scope,
        comparable=True,
        pattern=pattern,
        block_size=block_size,
        threshold=threshold,
    )


@pytest.mark.parametrize("rule", [_rule(), _rule(block_size=3), _rule(pattern=Pattern(2, 4))])
def test_half_of_the_weights_go(rule: MaskRule) -> None:
    weight = _weight("MatMul(x, w)", 12, 4)
    importances = np.abs(weight.view())
    (mask,) = rule.masks({weight: importances}).values()
    assert mask.shape == (1, 4, 12) and mask.dtype == np.bool_
    assert np.count_nonzero(mask) == 24
    assert importances[mask].mean() > importances[~mask].mean()


def test_a_threshold_holds_for_the_mean_of_a_block() -> None:
    weight = _weight("MatMul(x, w)", 4, 1)
    importances = np.float32([[[1, 3, 0, 3.9]]])
    (mask,) = _rule(block_size=2, threshold=2).masks({weight: importances}).values()
    assert mask.tolist() == [[[True, True, False, False]]]


@pytest.mark.parametrize(
    ("call", "shape", "told"),
    [
        ("Conv(x, w)", (8, 4, 3, 3), None),
        ("Conv(x, w)", (8, 3, 2, 2), "its 3 input channels are no multiple of 4"),
        ("MatMul(x, w)", (6, 4), "its 6 input channels are no multiple of 4"),
    ],
)
def test_a_pattern_must_divide_the_input_channels(
    call: str, shape: tuple[int, ...], told: str | None
) -> None:
    weight = _weight(call, *shape)
    assert _rule(pattern=Pattern(2, 4)).why_not(weight) == told
    assert _rule().why_not(weight) is None


def test_which_masks_are_chosen_anew() -> None:
    product, conv = _weight("MatMul(x, w)", 12, 4), _weight("Conv(x, w)", 4, 4, 3, 3)
    assert _rule().refinement(product) is least_important
    for rule in (_rule(Scope.OUTPUT), _rule(block_size=2), _rule(threshold=1)):
        assert rule.refinement(product) is None
    assert _rule(pattern=Pattern(2, 4)).refinement(product) is not None
    assert _rule(pattern=Pattern(2, 4)).refinement(conv) is None
    assert _rule(pattern=Pattern(2, 3)).refinement(product) is None


def test_computed_arrays_are_those_of_their_weights_alone() -> None:
    known, other = _weight("MatMul(x, w)", 2, 2), _weight("MatMul(x, w)", 2, 2)
    found = Computed([known], lambda weight: weight.view() + 1)
    assert list(found) == [known] and len(found) == 1
    np.testing.assert_array_equal(found[known], known.view() + 1)
    assert other not in found
