"""How a recipe that prunes is cut into rounds: what each of them runs, and how much it takes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile

from onnxcompress.errors import RecipeError
from onnxcompress.pass_base import Pass
from onnxcompress.recipe import Recipe


class Schedule(Enum):
    """How the share of all that is to go grows from round to round."""

    LINEAR = "linear"
    CUBIC = "cubic"
    ONE_SHOT = "one-shot"

    def shares(self, rounds: int) -> tuple[float, ...]:
        """The share that is gone after each round, the last of them 1.

        `cubic` takes most of it in the first rounds, where there is most to spare.
        Source: Zhu and Gupta, "To Prune, or Not to Prune", 2017, equation 1.
        """
        if self is Schedule.CUBIC:
            return tuple(1 - (1 - each / rounds) ** 3 for each in range(1, rounds + 1))
        return tuple(each / rounds for each in range(1, rounds + 1))


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """How a recipe is run in rounds.

    Attributes:
        rounds: how many, at least 1.
        schedule: what share of the recipe's amounts each of them reaches; `one-shot` is one round.
        checkpoints: a folder that keeps each round; None keeps nothing.
        resume: whether to go on behind the last round in that folder.
    """

    rounds: int
    schedule: Schedule = Schedule.LINEAR
    checkpoints: str | os.PathLike[str] | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuses options that do not go together."""
        if self.rounds < 1:
            raise RecipeError(f"there is at least 1 round, not {self.rounds}")
        if self.schedule is Schedule.ONE_SHOT and self.rounds > 1:
            raise RecipeError(
                f"schedule one-shot takes all in 1 round, not {self.rounds}; use linear or cubic"
            )
        if self.resume and self.checkpoints is None:
            raise RecipeError("to resume, name the folder of the checkpoints")

    @property
    def shares(self) -> tuple[float, ...]:
        """The share that is gone after each round."""
        return self.schedule.shares(self.rounds)


@dataclass(frozen=True)
class Plan:
    """A recipe in three parts.

    Attributes:
        prepare: runs once; all that stands before the first pass that zeroes an amount.
        repeat: runs every round, on the model that the round before it left: passes that zero or
            bring back an amount, and those that make up for it.
        finish: runs on a copy of each round's model, which is tested; one of them is the result.
    """

    prepare: tuple[Pass, ...]
    repeat: tuple[Pass, ...]
    finish: tuple[Pass, ...]

    @classmethod
    def of(cls, recipe: Recipe) -> Plan:
        """Cuts a recipe.

        Raises:
            RecipeError: no pass of it has an amount that could grow from round to round.
        """
        passes = recipe.passes
        start = next((at for at, each in enumerate(passes) if _zeroes_an_amount(each)), None)
        if start is None:
            raise RecipeError(
                "rounds need a recipe with a pass that zeroes an amount, such as prune-channels or "
                f"prune-weights without n_m; this one has {_names(passes)}"
            )
        repeat = tuple(takewhile(_repeats, passes[start:]))
        return cls(passes[:start], repeat, passes[start + len(repeat) :])

    def at(self, share: float) -> Plan:
        """The plan of a round: every amount, one in `finish` too, times `share`."""
        return Plan(self.prepare, _scaled(self.repeat, share), _scaled(self.finish, share))

    def unpruned(self) -> Plan:
        """The plan where no round held the budget: nothing is taken away."""
        return Plan(self.prepare, (), tuple(each for each in self.finish if not _repeats(each)))

    @property
    def recipe(self) -> Recipe:
        """The parts put together."""
        return Recipe((*self.prepare, *self.repeat, *self.finish))


def _zeroes_an_amount(pass_: Pass) -> bool:
    return pass_.prunes and pass_.scaled(1.0) is not None


def _repeats(pass_: Pass) -> bool:
    return pass_.recovers or pass_.scaled(1.0) is not None


def _scaled(passes: Iterable[Pass], share: float) -> tuple[Pass, ...]:
    return tuple(each.scaled(share) or each for each in passes)


def _names(passes: Iterable[Pass]) -> str:
    return ", ".join(each.name for each in passes) or "no pass"
