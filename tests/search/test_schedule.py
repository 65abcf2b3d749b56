"""How much each round takes, and what each round runs."""

from __future__ import annotations

import pytest

from onnxcompress.errors import RecipeError
from onnxcompress.pass_base import Override
from onnxcompress.passes import (
    PASSES,
    FoldBatchNorm,
    PruneChannels,
    PruneVocabulary,
    PruneWeights,
    QuantizeStatic,
    RefitWeights,
    RegrowWeights,
    StoreSparse,
    StripPruned,
)
from onnxcompress.recipe import Recipe
from onnxcompress.search.schedule import Iteration, Plan, Schedule


def test_shares() -> None:
    assert Schedule.LINEAR.shares(4) == (0.25, 0.5, 0.75, 1.0)
    assert Schedule.CUBIC.shares(4) == (37 / 64, 56 / 64, 63 / 64, 1.0)
    assert Schedule.ONE_SHOT.shares(1) == (1.0,)


@pytest.mark.parametrize("schedule", [Schedule.LINEAR, Schedule.CUBIC])
@pytest.mark.parametrize("rounds", [1, 3, 7, 49])
def test_shares_grow_and_end_at_just_one(schedule: Schedule, rounds: int) -> None:
    shares = schedule.shares(rounds)
    assert len(shares) == rounds
    assert shares[-1] == 1
    assert list(shares) == sorted(set(shares)) and shares[0] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "at least 1 round"),
        ({"rounds": 2, "schedule": Schedule.ONE_SHOT}, "takes all in 1 round, not 2"),
        ({"rounds": 2, "resume": True}, "name the folder"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Iteration(**options)  # type: ignore[arg-type]


def test_a_recipe_is_cut_where_pruning_begins_and_where_it_no_longer_goes_on() -> None:
    before = (FoldBatchNorm(), PruneVocabulary(), PruneWeights(n_m="2:4"))
    rounds = (PruneChannels(), PruneWeights(), RefitWeights(), RegrowWeights())
    after = (StripPruned(), StoreSparse(), PruneWeights(), QuantizeStatic())
    recipe = Recipe((*before, *rounds, *after))
    plan = Plan.of(recipe)
    assert (plan.prepare, plan.repeat, plan.finish) == (before, rounds, after)
    assert plan.recipe == plan.at(1.0).recipe == recipe
    assert plan.unpruned().recipe.passes == (*before, StripPruned(), StoreSparse(), after[3])


def test_a_round_takes_its_share_of_every_amount() -> None:
    head = Override(PruneWeights(sparsity=0.4), nodes=("head",))
    spared = Override(None, op_types=("Conv",))
    passes = (
        PruneChannels(amount=0.5),
        PruneWeights(sparsity=0.8, overrides=(head, spared)),
        RegrowWeights(sparsity=0.6),
        StripPruned(),
    )
    channels, weights, regrown, strip = Plan.of(Recipe(passes)).at(0.25).recipe.passes
    assert channels == PruneChannels(amount=0.125)
    less = Override(PruneWeights(sparsity=0.1), nodes=("head",))
    assert weights == PruneWeights(sparsity=0.2, overrides=(less, spared))
    assert regrown == RegrowWeights(sparsity=0.15)
    assert strip == StripPruned()


@pytest.mark.parametrize(
    "passes",
    [(QuantizeStatic(),), (RefitWeights(), StripPruned()), (PruneWeights(n_m="2:4"),), ()],
)
def test_rounds_without_an_amount_are_refused(passes: tuple[PruneWeights, ...]) -> None:
    names = ", ".join(each.name for each in passes) or "no pass"
    with pytest.raises(RecipeError, match=f"zeroes an amount.* this one has {names}"):
        Plan.of(Recipe(passes))


def test_which_passes_have_an_amount() -> None:
    scaled = {each.name for each in PASSES if each().scaled(0.5) is not None}
    prune = {"prune-weights", "prune-channels", "drop-block"}
    assert scaled == prune | {"regrow-weights", "regrow-channels"}
    for each in PASSES:
        pass_ = each()
        assert (pass_.scaled(1.0) or pass_) == pass_
