"""Models of scikit-learn, exported by skl2onnx: classifiers give maps unless told otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.verdict.numbers import of_scores
from tests.verdict.support import Case, Outputs, Quality, stacked

_SAMPLES = 200
_SEED = 0


def _export(model: Any, x: np.ndarray, folder: Path, **options: Any) -> None:
    """Write the model, and some samples that it did not see."""
    with warnings.catch_warnings():
        # skl2onnx asks onnx, scikit-learn and NumPy for what newer ones call deprecated.
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx

        made = to_onnx(model, x[:1], options=options)
    onnx.save(made, folder / "model.onnx")
    np.savez(folder / "data.npz", X=x)


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows to fit on and the others, as many as there are samples."""
    order = np.random.default_rng(_SEED).permutation(len(x))
    return order[_SAMPLES:], order[:_SAMPLES]


def boosting(folder: Path) -> None:
    """How far diabetes goes, one number."""
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import GradientBoostingRegressor

    x, y = load_diabetes(return_X_y=True)
    fitted, rest = _halves(x)
    model = GradientBoostingRegressor(random_state=_SEED).fit(x[fitted], y[fitted])
    _export(model, x[rest].astype(np.float32), folder)


def forest(folder: Path) -> None:
    """Which digit it is: a class and a map of probabilities."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_digits(return_X_y=True)
    fitted, rest = _halves(x)
    model = RandomForestClassifier(n_estimators=30, random_state=_SEED).fit(x[fitted], y[fitted])
    _export(model, x[rest].astype(np.float32), folder)


def logistic(folder: Path) -> None:
    """Which digit it is, in words."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    words = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    x, y = load_digits(return_X_y=True)
    fitted, rest = _halves(x)
    model = LogisticRegression(tol=0.01).fit(x[fitted[:500]] / 16, words[y[fitted[:500]]])
    _export(model, (x[rest] / 16).astype(np.float32), folder)


def perceptron(folder: Path) -> None:
    """Whether a digit is even, above four, round: three labels at once, or none."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    labels = np.stack([y % 2 == 0, y > 4, np.isin(y, (0, 6, 8, 9))], axis=1).astype(np.int64)
    fitted, rest = _halves(x)
    model = MLPClassifier((32,), max_iter=300, tol=1e-3, random_state=_SEED)
    model.fit(x[fitted] / 16, labels[fitted])
    # Three labels at once make no valid map.
    _export(model, (x[rest] / 16).astype(np.float32), folder, zipmap=False)


def of_classes(name: str) -> Quality:
    """The share of equal answers, each element on its own."""

    def quality(original: Outputs, candidate: Outputs) -> float:
        return float(np.mean(stacked(original, name) == stacked(candidate, name)))

    return quality


BUILDERS: dict[str, Callable[[Path], None]] = {
    "boosting": boosting,
    "forest": forest,
    "logistic": logistic,
    "perceptron": perceptron,
}

CASES = {
    "boosting": Case(kinds={"variable": "number"}, quality=of_scores("variable")),
    "forest": Case(
        kinds={"output_label": "integers", "output_probability": "maps"},
        quality=of_classes("output_label"),
    ),
    "logistic": Case(
        kinds={"output_label": "strings", "output_probability": "maps"},
        quality=of_classes("output_label"),
    ),
    "perceptron": Case(
        kinds={"label": "integers", "probabilities": "labels"}, quality=of_classes("label")
    ),
}
