import numpy as np
import pytest

from onnxcompress.pruning import least_squares
from onnxcompress.pruning.least_squares import Fit, PairedMoments, choose_ridge, ridge_fit

GROUPS, OUTPUTS, FEATURES = 2, 3, 6


def _rows(count: int, features: int = FEATURES, seed: int = 0) -> np.ndarray:
    """Correlated rows [groups, count, features], their mean not 0."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((GROUPS, features, features))
    return rng.standard_normal((GROUPS, count, features)) @ mixing + rng.standard_normal(features)


def _moments(inputs: np.ndarray, outputs: np.ndarray, parts: int = 3) -> PairedMoments:
    moments = PairedMoments.empty(GROUPS, outputs.shape[2], inputs.shape[2])
    for x, y in zip(
        np.array_split(inputs, parts, axis=1), np.array_split(outputs, parts, axis=1), strict=True
    ):
        moments.add(x, y)
    return moments


def _start(outputs: int = OUTPUTS, features: int = FEATURES, seed: int = 5) -> Fit:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((GROUPS, outputs, features))
    return Fit(weights, rng.standard_normal((GROUPS, outputs)))


def _ridge_by_lstsq(
    x: np.ndarray, y: np.ndarray, start: np.ndarray, penalty: float
) -> tuple[np.ndarray, float]:
    """One output's weights and bias: the ridge as further rows of a least-squares problem."""
    count, features = x.shape
    further = np.sqrt(count * penalty) * np.eye(features, features + 1)
    left = np.vstack([np.column_stack([x, np.ones(count)]), further])
    right = np.concatenate([y, further[:, :features] @ start])
    solution = np.linalg.lstsq(left, right, rcond=None)[0]
    return solution[:-1], solution[-1]


def test_the_sums_give_the_error_of_any_map() -> None:
    inputs, fit = _rows(50), _start()
    outputs = np.random.default_rng(1).standard_normal((GROUPS, 50, OUTPUTS))
    moments = _moments(inputs, outputs)
    found = inputs @ fit.weights.transpose(0, 2, 1) + fit.bias[:, None]
    np.testing.assert_allclose(
        fit.errors(moments), np.square(found - outputs).mean(axis=1), rtol=1e-10
    )
    halves = [_moments(inputs[:, part], outputs[:, part]) for part in (slice(20), slice(20, 50))]
    np.testing.assert_allclose(fit.errors(halves[0] + halves[1]), fit.errors(moments), rtol=1e-12)


@pytest.mark.parametrize("ridge", [1e-9, 0.01, 1.0])
def test_a_ridge_fit_is_what_lstsq_finds(ridge: float) -> None:
    inputs, start = _rows(40), _start()
    outputs = np.random.default_rng(1).standard_normal((GROUPS, 40, OUTPUTS)) + 3
    support = np.ones(start.weights.shape, np.bool_)
    fit = ridge_fit(_moments(inputs, outputs), start, support, ridge, intercept=True)
    for group, x in enumerate(inputs):
        penalty = ridge * x.var(axis=0).mean()
        for output in range(OUTPUTS):
            weights, bias = _ridge_by_lstsq(
                x, outputs[group, :, output], start.weights[group, output], penalty
            )
            np.testing.assert_allclose(fit.weights[group, output], weights, rtol=1e-6)
            np.testing.assert_allclose(fit.bias[group, output], bias, rtol=1e-6)


def test_without_an_intercept_the_bias_stays() -> None:
    inputs, start = _rows(40), _start()
    outputs = np.random.default_rng(1).standard_normal((GROUPS, 40, OUTPUTS)) + 3
    support = np.ones(start.weights.shape, np.bool_)
    fit = ridge_fit(_moments(inputs, outputs), start, support, 1e-12, intercept=False)
    np.testing.assert_array_equal(fit.bias, start.bias)
    for group, x in enumerate(inputs):
        wanted = np.linalg.lstsq(x, outputs[group] - start.bias[group], rcond=None)[0].T
        np.testing.assert_allclose(fit.weights[group], wanted, rtol=1e-6)


@pytest.mark.parametrize("way", ["stacked", "by support", "conjugate gradients"])
def test_each_row_keeps_its_own_support(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "stacked":
        monkeypatch.setattr(least_squares, "_MOST_STACKED", 0)
    if way == "conjugate gradients":
        monkeypatch.setattr(least_squares, "_MOST_SOLVES", 0)
    inputs, start = _rows(60), _start()
    outputs = np.random.default_rng(1).standard_normal((GROUPS, 60, OUTPUTS))
    support = np.random.default_rng(2).random(start.weights.shape) < 0.6
    start = Fit(np.where(support, start.weights, 0.0), start.bias)
    fit = ridge_fit(_moments(inputs, outputs), start, support, 1e-9, intercept=True)
    np.testing.assert_array_equal(fit.weights[~support], 0)
    for group, output in np.ndindex(GROUPS, OUTPUTS):
        chosen = support[group, output]
        ones = np.ones((60, 1))
        left = np.hstack([inputs[group][:, chosen], ones])
        wanted = np.linalg.lstsq(left, outputs[group, :, output], rcond=None)[0]
        np.testing.assert_allclose(fit.weights[group, output, chosen], wanted[:-1], rtol=1e-5)
        np.testing.assert_allclose(fit.bias[group, output], wanted[-1], rtol=1e-5)


def test_constant_inputs_are_left_out_exactly() -> None:
    inputs, start = _rows(40), _start()
    inputs[:, :, 1], inputs[:, :, 4] = 0.0, 7.25
    outputs = np.random.default_rng(1).standard_normal((GROUPS, 40, OUTPUTS))
    support = np.ones(start.weights.shape, np.bool_)
    fit = ridge_fit(_moments(inputs, outputs), start, support, 1e-9, intercept=True)
    np.testing.assert_array_equal(fit.weights[:, :, [1, 4]], start.weights[:, :, [1, 4]])
    live = [0, 2, 3, 5]
    for group, x in enumerate(inputs):
        left = np.column_stack([x[:, live], np.ones(40)])
        wanted = np.linalg.lstsq(left, outputs[group], rcond=None)[0]
        np.testing.assert_allclose(fit.weights[group][:, live], wanted[:-1].T, rtol=1e-5)
        found = x @ fit.weights[group].T + fit.bias[group]
        np.testing.assert_allclose(found.mean(axis=0), outputs[group].mean(axis=0), rtol=1e-9)


def test_an_infinite_ridge_moves_biases_alone_and_not_those_of_pruned_outputs() -> None:
    inputs, start = _rows(40), _start()
    outputs = np.random.default_rng(1).standard_normal((GROUPS, 40, OUTPUTS)) + 3
    support = np.ones(start.weights.shape, np.bool_)
    support[:, 1] = False
    fit = ridge_fit(_moments(inputs, outputs), start, support, np.inf, intercept=True)
    np.testing.assert_array_equal(fit.weights, start.weights)
    np.testing.assert_array_equal(fit.bias[:, 1], start.bias[:, 1])
    errors = inputs @ fit.weights.transpose(0, 2, 1) + fit.bias[:, None] - outputs
    np.testing.assert_allclose(errors.mean(axis=1)[:, [0, 2]], 0, atol=1e-12)


def test_the_ridge_is_chosen_for_each_output_on_rows_set_aside() -> None:
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((1, 400, 20))
    true = rng.standard_normal(20)
    follows = inputs[0] @ true
    noise = rng.standard_normal(400)  # nothing to be learnt: as it was is best
    outputs = np.stack([follows, noise], axis=1)[None]
    start = Fit(np.zeros((1, 2, 20)), np.zeros((1, 2)))
    sums = []
    for part in (slice(0, 30), slice(30, 400)):
        moments = PairedMoments.empty(1, 2, 20)
        moments.add(inputs[:, part], outputs[:, part])
        sums.append(moments)
    support = np.ones((1, 2, 20), np.bool_)
    choice = choose_ridge(*sums, start, start, support, [1e-6, 1.0], intercept=True, gain=0.01)
    assert choice.changed.tolist() == [[True, False]]
    np.testing.assert_allclose(choice.fit.weights[0, 0], true, atol=1e-5)
    np.testing.assert_array_equal(choice.fit.weights[0, 1], 0)
    np.testing.assert_array_equal(choice.after[0, 1], choice.before[0, 1])
    assert choice.after[0, 0] < 1e-6 * choice.before[0, 0]


def test_what_is_right_but_for_rounding_stays() -> None:
    inputs, start = _rows(40), _start()
    outputs = inputs @ start.weights.transpose(0, 2, 1) + start.bias[:, None]
    outputs = outputs.astype(np.float32)
    sums = [_moments(inputs[:, part], outputs[:, part]) for part in (slice(30), slice(30, 40))]
    support = np.ones(start.weights.shape, np.bool_)
    choice = choose_ridge(*sums, start, start, support, [1e-3], intercept=True, gain=0.01)
    assert not choice.changed.any()
    np.testing.assert_array_equal(choice.fit.weights, start.weights)
