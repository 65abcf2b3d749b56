import numpy as np
import pytest

from onnxcompress.pruning.unit_removal import Product, remove_greedily, remove_in_order

Array = np.ndarray


def _covariance(rng: np.random.Generator, features: int) -> Array:
    rows = rng.standard_normal((6 * features, features)) @ rng.standard_normal((features, features))
    return rows.T @ rows / len(rows)


def _products(units: int, each: int, seed: int = 0) -> list[Product]:
    rng = np.random.default_rng(seed)
    size = units * each
    return [
        Product(
            rng.standard_normal((outputs, size)),
            _covariance(rng, size),
            _covariance(rng, size),
            rng.permutation(size).reshape(units, each),
            float(outputs),
        )
        for outputs in (5, 7)
    ]


def _error(products: list[Product], gone: Array) -> float:
    """Of the weights that lose least on the rows of the fit, on the other rows."""
    total = 0.0
    for each in products:
        lost = each.features[gone].reshape(-1)
        kept = np.setdiff1d(np.arange(each.weight.shape[1]), lost)
        damping = 0.01 * np.diagonal(each.fitted).mean()
        moments = each.fitted + damping * np.eye(len(each.fitted))
        made_up = np.linalg.solve(moments[np.ix_(kept, kept)], moments[np.ix_(kept, lost)])
        change = np.zeros_like(each.weight)
        change[:, lost] = -each.weight[:, lost]
        if len(kept):
            change[:, kept] = each.weight[:, lost] @ made_up.T
        total += np.trace(change @ each.held_out @ change.T) / each.variance
    return total


@pytest.mark.parametrize(("units", "each", "at_once"), [(20, 1, 1), (24, 1, 4), (9, 3, 2)])
def test_costs_are_what_the_best_remaining_weights_lose(
    units: int, each: int, at_once: int
) -> None:
    """Also once most columns are gone, when those were dropped."""
    products = _products(units, each)
    rng = np.random.default_rng(1)
    removal = remove_in_order(products, rng.permutation(units), at_once)
    errors, gone = [0.0], 0
    expected: list[float] = []
    while gone < units:
        count = (units - gone) % at_once or at_once
        gone += count
        errors.append(_error(products, removal.order[:gone]))
        expected += [max(errors[-1] - errors[-2], 0.0) / count] * count
    np.testing.assert_allclose(removal.costs, np.maximum.accumulate(expected), rtol=1e-9)


def test_greedily_the_next_is_the_one_that_the_others_best_make_up_for() -> None:
    products = _products(8, 2)
    for each in products:  # judged on the rows of the fit, without damping to speak of
        each.held_out[:] = each.fitted + 0.01 * np.diagonal(each.fitted).mean() * np.eye(16)
    removal = remove_greedily(products, 1)
    for taken in range(7):
        before = removal.order[:taken]
        errors = {unit: _error(products, np.append(before, unit)) for unit in removal.order[taken:]}
        assert min(errors, key=lambda unit: errors[unit]) == removal.order[taken]
