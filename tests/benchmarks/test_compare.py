"""The comparison's table from made-up figures, and a whole comparison on a few samples."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import compare, compare_table, peers
from benchmarks.child import Outcome, run_in_child
from benchmarks.compare_table import Comparison, Row
from benchmarks.peers import PEERS, Reader
from benchmarks.results import command_line, environment_line
from onnxcompress.judging.score import Score
from onnxcompress.measure.environment import environment
from onnxcompress.measure.latency import Latency
from onnxcompress.measure.size import Size
from onnxcompress.report.schema import ModelReport
from tests.conftest import SUBJECTS

pytestmark = pytest.mark.slow


def _report(name: str, size: int, drop: float, speedup: float) -> ModelReport:
    return ModelReport(
        name=name,
        nodes=3,
        parameters=size // 4,
        size=Size(file_bytes=size, load_seconds=0.1, peak_memory_bytes=size),
        score=Score(
            value=0.9 - drop,
            reference_value=0.9,
            drop=drop,
            drop_interval=(drop - 0.01, drop + 0.01),
        ),
        latency=Latency(
            median_ms=10 / speedup,
            q1_ms=9.0,
            q3_ms=11.0,
            speedup=speedup,
            speedup_low=speedup - 0.1,
            speedup_high=speedup + 0.1,
            rounds=5,
            runs_per_round=1,
        ),
        executed_ops={},
        surviving_qdq=(),
    )


MADE_UP = Comparison(
    subject="made-up",
    metric="top1",
    samples=12,
    environment=environment(),
    rows=(
        Row(name="original", model=_report("original", 4_000_000, 0.0, 1.0)),
        Row(name="onnxcompress", made="how", model=_report("ours", 1_000_000, -0.005, 2.5)),
        Row(name="other", made="theirs", model=_report("other", 1_200_000, math.inf, 0.5)),
        Row(name="broken", failure="ValueError: a|b"),
    ),
)


def test_the_table_of_a_made_up_report() -> None:
    _, _, told, _, head, _, *rows = compare_table.section(MADE_UP).splitlines()
    assert told == "12 held-out samples."
    assert head == (
        "| model | bytes | of original | top1, % | drop (95 %) | ms | speed-up (95 %) |"
    )
    assert rows == [
        "| original | 4 MB | 100% | 90.00 |  | 10 |  |",
        "| **onnxcompress** | 1 MB | 25% | 90.50 | -0.50 (-1.50..0.50) | 4 | "
        "2.50x (2.40x..2.60x) |",
        "| other | 1.2 MB | 30% | -inf | inf (inf..inf) | 20 | 0.50x (0.40x..0.60x) |",
        "| broken | failed: ValueError: a/b |  |  |  |  |  |",
        "",
        "- onnxcompress: how.",
        "- other: theirs.",
    ]


def test_writing_the_page_and_the_json(tmp_path: Path) -> None:
    page, data = tmp_path / "new" / "compare.md", tmp_path / "new" / "compare.json"
    compare_table.write([MADE_UP, MADE_UP], "the command", page, data)
    text = page.read_text()
    assert text.startswith("# Side by side\n")
    assert environment_line(MADE_UP.environment) in text
    assert "`the command`" in text
    assert text.count("## made-up") == 2
    read = json.loads(data.read_text())
    assert read["command"] == "the command"
    assert read["subjects"][0]["rows"][1]["model"]["latency"]["speedup"] == 2.5
    assert read["subjects"][1]["rows"][3]["failure"] == "ValueError: a|b"


def test_the_command_is_told_without_paths_of_this_machine() -> None:
    arguments = ["resnet20", "--cache", "/somewhere/private/cache"]
    assert (
        command_line("compare", arguments) == "python -m benchmarks.compare resnet20 --cache cache"
    )


def test_peers_have_names_of_their_own() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    percentile = [peer for peer in PEERS if "percentile" in peer.name]
    assert [peer.samples for peer in percentile] == [peers.PERCENTILE_SAMPLES]


def test_calibration_samples_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.arange(6).reshape(3, 2), labels=np.arange(3))
    reader = Reader(path, ["x"], 2)
    assert reader.count == 2
    given = [reader.get_next(), reader.get_next()]
    assert [each["x"].tolist() for each in given if each] == [[[0, 1]], [[2, 3]]]
    assert reader.get_next() is None


def test_fewer_test_samples_are_spread_over_all(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    np.savez(path, x=np.arange(10), labels=np.arange(10) * 10)
    (tmp_path / "thin").mkdir()
    assert compare.thinned(path, None, tmp_path / "thin") == path
    assert compare.thinned(path, 10, tmp_path / "thin") == path
    with np.load(compare.thinned(path, 4, tmp_path / "thin")) as arrays:
        assert arrays["x"].tolist() == [0, 2, 5, 7]
        assert arrays["labels"].tolist() == [0, 20, 50, 70]


def test_a_subject_that_was_not_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["resnet20", "--cache", str(tmp_path)]) == 1
    assert "python -m benchmarks.subjects fetch resnet20" in capsys.readouterr().err


def test_a_whole_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SUBJECTS / "resnet20"
    if not (source / "model.onnx").is_file():
        pytest.skip("resnet20 was not fetched: python -m benchmarks.subjects fetches it")
    subject = tmp_path / "resnet20"
    subject.mkdir()
    (subject / "model.onnx").symlink_to(source / "model.onnx")
    for name in ("calibration", "test"):
        thin = compare.thinned(source / f"{name}.npz", 40, subject)
        assert thin == subject / f"{name}.npz"
    broken = peers.Peer(name="broken", quantize=PEERS[0].quantize, subjects=frozenset({"minilm"}))
    monkeypatch.setattr(compare, "PEERS", (PEERS[0], broken))

    def run(function: Callable[..., Any], *arguments: Any) -> Outcome[Any]:
        """Ours in this process, where timing is cut short; peers leave their traces in theirs."""
        if function is not compare.compress:
            return run_in_child(function, *arguments)
        return Outcome(value=function(*arguments), seconds=0.0, peak_bytes=0)

    monkeypatch.setattr(compare, "run_in_child", run)
    output, data = tmp_path / "compare.md", tmp_path / "compare.json"
    arguments = ["resnet20", "--cache", str(tmp_path), "--samples", "20"]
    arguments += ["--output", str(output), "--json", str(data)]
    assert compare.main(arguments) == 0
    page = output.read_text()
    assert page.split("\n## ")[1] in f"{capsys.readouterr().out}\n"
    assert str(tmp_path) not in page + data.read_text()
    rows = json.loads(data.read_text())["subjects"][0]["rows"]
    assert [row["name"] for row in rows] == ["original", "onnxcompress", PEERS[0].name]
    original, ours, theirs = (row["model"] for row in rows)
    for smaller in (ours, theirs):
        assert smaller["size"]["file_bytes"] < 0.4 * original["size"]["file_bytes"]
        assert smaller["score"]["value"] > 0.5
    assert "calibrated on 40 samples" in rows[2]["made"]
