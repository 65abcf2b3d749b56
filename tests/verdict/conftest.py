from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SUBJECTS
from tests.verdict import damage, tables
from tests.verdict.replay import Judge
from tests.verdict.support import Outputs, Verdict, answers, judged_together

SELF = ""
HARMS = ("40", "10", "constant")
"""Decibels of noise on the weights, and a model that gives one answer to all."""


class Zoo:
    """Models, their damaged copies and what each of them answers, made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: dict[tuple[str, str], Outputs] = {}
        self._verdicts: dict[str, list[Verdict]] = {}
        self._judges: dict[str, Judge] = {}

    def original(self, name: str) -> Path:
        """The model as it was fetched, or exported here."""
        return self._home(name) / "model.onnx"

    def data(self, name: str) -> Path:
        """Its inputs, a file or a folder."""
        file = self._home(name) / "data.npz"
        return file if file.is_file() else self._home(name) / "data"

    def candidate(self, name: str, harm: str) -> Path:
        """One of `HARMS` done to a copy of the model, or the model itself."""
        if harm == SELF:
            return self.original(name)
        path = self._folder / f"{name}.{harm}.onnx"
        if not path.exists():
            if harm == "constant":
                damage.constant(self.original(name), self.answers(name), path)
            else:
                damage.noisy(self.original(name), float(harm), path)
        return path

    def answers(self, name: str, harm: str = SELF) -> Outputs:
        """What the original or a candidate answers to each sample."""
        if (name, harm) not in self._answers:
            model = self.candidate(name, harm)
            self._answers[name, harm] = answers(model, self.data(name))
        return self._answers[name, harm]

    def verdict(self, name: str, harm: str = SELF) -> Verdict:
        """What `bench` says of the original, taken for a candidate, or of a candidate."""
        harms = (SELF, *HARMS)
        if name not in self._verdicts:
            candidates = [self.candidate(name, each) for each in harms]
            self._verdicts[name] = judged_together(self.original(name), candidates, self.data(name))
        return self._verdicts[name][harms.index(harm)]

    def judge(self, name: str) -> Judge:
        """What judges answers to the model's samples, without running anything again."""
        if name not in self._judges:
            self._judges[name] = Judge(self.original(name), self.answers(name), self.data(name))
        return self._judges[name]

    def _home(self, name: str) -> Path:
        if name not in tables.BUILDERS:
            if not (SUBJECTS / name / "model.onnx").is_file():
                pytest.skip(f"{name} was not fetched: python -m benchmarks.subjects fetches it")
            return SUBJECTS / name
        folder = self._folder / name
        if not folder.exists():
            folder.mkdir()
            tables.BUILDERS[name](folder)
        return folder


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("verdict"))
