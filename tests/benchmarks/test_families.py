"""The table of families, its page and its picture, from made-up figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import families, family_page, family_plot
from benchmarks.family_page import Entry, Figures, Section
from benchmarks.family_table import FAMILIES, LANGUAGE_MODELS
from benchmarks.peers import PEERS
from onnxcompress.ir import io
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.session import Session
from tests.benchmarks.test_compare import _report
from tests.conftest import fetched

ENTRIES = (
    Entry(family=FAMILIES[0], failure="it | broke"),
    Entry(family=FAMILIES[1], figures=Figures.of(_report("a", 250_000, 0.01, 2.0))),
    Entry(family=FAMILIES[-1], figures=Figures.of(_report("b", 500_000, 0.0, 1.0))),
)
SECTION = Section(
    subject="made-up",
    metric="top1",
    samples=12,
    original=Figures.of(_report("original", 1_000_000, 0.0, 1.0)),
    entries=ENTRIES,
)


def test_every_family_names_passes_or_a_peer_that_there_is() -> None:
    peers = {peer.name for peer in PEERS}
    for family in FAMILIES:
        assert (family.peer in peers) is not bool(family.passes), family.name
        for each in family.passes:
            parse_pass(each)
    assert len({(family.group, family.name) for family in FAMILIES}) == len(FAMILIES)
    assert any(not family.suits(name) for family in FAMILIES for name in LANGUAGE_MODELS)


def test_the_table_tells_sizes_accuracy_speed_and_failures() -> None:
    lines = family_page.table(SECTION).splitlines()
    assert lines[4] == "| group | recipe | bytes | of original | metric | speed-up |"
    assert lines[6] == "| float32 | original | 1 MB | 100.0% | 90.00 % |  |"
    assert lines[7] == "| 8-bit static | onnxruntime static | failed: it / broke | | | |"
    assert lines[8] == "|  | static | 250 kB | 25.0% | 89.00 % | 2.00x |"
    assert lines[9] == "| storage floats | bfloat16 weights | 500 kB | 50.0% | 90.00 % | 1.00x |"


def test_the_page_lists_each_recipe_once() -> None:
    page = family_page.page([SECTION, SECTION], "Measured somewhere.", "picture.svg")
    assert page.count("- 8-bit static, static: `quantize-static`\n") == 1
    assert page.count("## made-up\n") == 2
    assert "(picture.svg)" in page


def test_figures_of_other_subjects_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(folder: Path, samples: int | None, _: Path) -> Section:
        return replace(SECTION, subject=folder.name, samples=samples or 0)

    monkeypatch.setattr(families, "measure", measured)
    monkeypatch.setattr(families, "find_subject", lambda cache, name: cache / name)
    places = [f"--{kind}={tmp_path / kind}" for kind in ("json", "page", "plot")]
    for subject, samples in (("minilm", 5), ("resnet20", 6), ("minilm", 7)):
        assert families.main([subject, f"--samples={samples}", *places]) == 0
    kept = families._measured_before(tmp_path / "json")
    assert {name: section.samples for name, section in kept.items()} == {"resnet20": 6, "minilm": 7}
    assert kept["minilm"] == replace(SECTION, subject="minilm", samples=7)
    page = (tmp_path / "page").read_text(encoding="utf-8")
    assert page.index("## resnet20") < page.index("## minilm")


def test_a_perplexity_is_no_percentage() -> None:
    assert family_page.value_text(29.914, "perplexity") == "29.91"


def test_the_picture_has_a_panel_for_each_subject_and_does_not_change(tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (first, second):
        family_plot.draw([SECTION, SECTION], path)
    text = first.read_text(encoding="utf-8")
    assert text == second.read_text(encoding="utf-8")
    assert text.count(">made-up</text>") == 2
    assert "8-bit static" in text


@pytest.mark.slow
def test_a_recipe_is_run_on_the_cleaned_model(tmp_path: Path) -> None:
    folder, output, cleaned = fetched("resnet20"), tmp_path / "out.onnx", tmp_path / "clean.onnx"
    source, calibration = folder / "model.onnx", folder / "calibration.npz"
    families.clean(source, calibration, cleaned)
    families.compress(cleaned, calibration, ["quantize-weights:bits=4"], output)
    assert output.stat().st_size < 0.2 * source.stat().st_size
    assert sum(1 for _ in io.load(output).nodes()) < sum(1 for _ in io.load(source).nodes()) + 30
    with np.load(folder / "test.npz", allow_pickle=False) as arrays:
        name = Session(source).inputs[0].name
        feed, labels = {name: arrays[name][:200]}, arrays["labels"][:200]
    scores = next(iter(Session(output).run(feed).values()))
    assert np.mean(scores.argmax(axis=1) == labels) == pytest.approx(0.845, abs=0.05)
