import pytest
from scipy import special, stats

from onnxcompress.measure.binomial import beta_quantile, clopper_pearson, incomplete_beta


@pytest.mark.parametrize("a", [0.5, 1, 3, 20, 1999, 10_000])
@pytest.mark.parametrize("b", [0.5, 1, 7, 50, 2000])
def test_incomplete_beta_is_scipys(a: float, b: float) -> None:
    for x in (0.0, 1e-6, 0.01, 0.3, 0.5, a / (a + b), 0.9, 0.9999, 1.0):
        assert incomplete_beta(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-10)


def test_quantile_near_zero_keeps_its_digits() -> None:
    wanted = stats.beta.ppf(1e-9, 1, 1_000_000)
    assert beta_quantile(1e-9, 1, 1_000_000) == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("samples", [1, 2, 5, 20, 50, 169, 2000, 100_000])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_limits_are_scipys(samples: int, confidence: float) -> None:
    for count in {0, 1, 2, samples // 7, samples // 2, samples - 1, samples}:
        if count > samples:
            continue
        exact = stats.binomtest(count, samples).proportion_ci(confidence, method="exact")
        low, high = clopper_pearson(count, samples, confidence)
        # SciPy's own solver stops at about 2e-12.
        assert low == pytest.approx(exact.low, abs=1e-10)
        assert high == pytest.approx(exact.high, abs=1e-10)


def test_none_of_n() -> None:
    assert clopper_pearson(0, 169)[0] == 0
    assert clopper_pearson(0, 169)[1] == pytest.approx(1 - 0.025 ** (1 / 169), rel=1e-12)
