"""The table of releases beside real ones: how it is judged, and the judging itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import runtimes
from benchmarks.runtime_files import FORMS, GRAPHS, drawn, make, samples
from benchmarks.subjects.__main__ import default_cache
from onnxcompress.ir import io
from onnxcompress.releases import Release, oldest_release


def test_graphs_load_everywhere() -> None:
    for text in GRAPHS.values():
        assert str(oldest_release(drawn(text))) == "1.15"


def test_a_form_is_made_or_says_why_not() -> None:
    model = drawn(GRAPHS["MLP"])
    data = samples(model)
    made = make("MLP", "int4 weights, blocks", model, data, Release(1, 16))
    assert (str(made.told), made.reason) == ("1.15", "")
    refused = make("MLP", "fixed point, 12 bits", model, data, Release(1, 16))
    assert refused.told is None and "needs opset 21" in refused.reason
    assert {made.form, refused.form} <= FORMS.keys()


def test_outcomes_tell_the_first_that_runs_a_file_rightly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = drawn(GRAPHS["MLP"])
    (tmp_path / "files").mkdir()
    io.save(model, tmp_path / "files" / "mlp.onnx")
    feeds = next(samples(model).batches(2)).feeds
    np.savez(tmp_path / "files" / "mlp.npz", **feeds)
    (tmp_path / "files" / "not.onnx").write_bytes(b"no model")
    monkeypatch.setattr(runtimes, "interpreter", lambda *_: Path(sys.executable))
    found = runtimes.probe(tmp_path / "files", ["1.15.1", "1.32.0"], tmp_path)
    assert found["mlp"].differences == {"1.15.1": 0.0, "1.32.0": 0.0}
    assert found["mlp"].agrees(Release(1, 15)) and not found["mlp"].agrees(Release(1, 16))
    assert found["not"].first is None
    assert found["not"].refusals.keys() == {"1.15.1", "1.32.0"}


@pytest.mark.parametrize(
    ("differences", "first"),
    [
        ({"1.15.1": 0.0, "1.16.3": 0.0, "1.17.3": 0.0}, "1.15.1"),
        ({"1.16.3": 0.0, "1.17.3": 0.0}, "1.16.3"),
        ({"1.15.1": 0.0, "1.16.3": 0.9, "1.17.3": 0.0}, "1.17.3"),
        ({"1.15.1": 0.0}, None),
    ],
)
def test_a_wrong_result_counts_as_none(
    differences: dict[str, float], first: str | None, tmp_path: Path
) -> None:
    told = {
        each: {"file": "" if each in differences else "refused"}
        for each in ("1.15.1", "1.16.3", "1.17.3")
    }
    for version in told:
        (tmp_path / version).mkdir()
        values = np.array([1.0, 1.0 + differences.get(version, 0.0)], np.float32)
        np.savez(tmp_path / version / "file.npz", y=values)
    assert runtimes._outcome("file", told, tmp_path).first == first


@pytest.mark.campaign
def test_the_table_holds_for_real_releases(tmp_path: Path) -> None:
    """Installs them: needs the network, or the environments of an earlier run."""
    versions = ["1.15.1", "1.16.3", "1.18.1", "1.20.1", "1.22.1", "1.24.4", "1.32.0"]
    cache = ["--cache", str(default_cache(os.environ)), "--output", str(tmp_path / "page.md")]
    assert runtimes.main([*cache, *versions]) == 0
    assert "need a later release than they say: 0." in (tmp_path / "page.md").read_text()
