"""Every sampling plan: rows depend on their number alone, units hold together, and each has its own shape."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.game import SAMPLINGS, all_strata, get_sampling, paper_slices
from cokv_bench.game.coalitions import all_coalitions
from cokv_bench.game.sampling import NeymanPlan

seeds = st.integers(0, 2**64 - 1)


def pilot_of(plan, seed=0):
    return np.random.default_rng(seed).normal(size=plan.pilot_rows)


@settings(max_examples=120)
@given(st.sampled_from(sorted(SAMPLINGS)), st.integers(1, 70), seeds, st.data())
def test_rows_sizes_and_units_do_not_depend_on_the_batch(name, players, seed, data):
    plan = get_sampling(name).plan(players, seed)
    pilot = pilot_of(plan)
    start = data.draw(st.integers(0, 2 * plan.pilot_rows + 300))
    stop = start + data.draw(st.integers(1, 40))
    middle = data.draw(st.integers(start, stop))
    for method in (plan.coalitions, plan.row_sizes, lambda first, last, _: plan.units(first, last)):
        whole = method(start, stop, pilot)
        np.testing.assert_array_equal(
            whole, np.concatenate([method(start, middle, pilot), method(middle, stop, pilot)])
        )
        np.testing.assert_array_equal(whole, method(0, stop, pilot)[start:])


@settings(max_examples=80)
@given(st.sampled_from(sorted(SAMPLINGS)), st.integers(1, 40), seeds)
def test_rows_are_pairs_of_the_size_they_were_sampled_for_within_one_unit(name, players, seed):
    plan = get_sampling(name).plan(players, seed)
    rows = 2 * plan.pilot_rows + 240
    coalitions, sizes = plan.coalitions(0, rows, pilot_of(plan)), plan.row_sizes(0, rows, pilot_of(plan))
    units = plan.units(0, rows)
    np.testing.assert_array_equal(coalitions[0::2], ~coalitions[1::2])
    np.testing.assert_array_equal(sizes[0::2], sizes[1::2])
    np.testing.assert_array_equal(units[0::2], units[1::2])
    assert set(np.diff(units)) <= {0, 1}
    if name == "uniform":
        assert not sizes.any()
    else:
        np.testing.assert_array_equal(coalitions[0::2].sum(axis=1), sizes[0::2])
        # The sizes take turns: a round visits each of them once.
        wanted, rows_a_visit = set(plan.config()["sizes"]), 4 if name == "antithetic" else 2
        seen, visits = np.unique(sizes[: rows_a_visit * len(wanted)], return_counts=True)
        assert set(seen) == wanted
        assert set(visits) == {rows_a_visit}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_plan_names_itself(name):
    config = get_sampling(name).plan(16, 3).config()
    assert config["sampling"] == name
    assert json.loads(json.dumps(config)) == config
    sizes = {"slices": paper_slices(16), "strata": all_strata(16)}
    assert name not in sizes or config["sizes"] == list(sizes[name])
    assert SAMPLINGS[name].name == name
    assert "\n" not in SAMPLINGS[name].description


@pytest.mark.parametrize("name", SAMPLINGS)
def test_other_seeds_give_other_coalitions_and_bad_ones_are_refused(name):
    first, second = (get_sampling(name).plan(40, seed).coalitions(0, 80) for seed in (0, 1))
    assert (first != second).any(axis=1).sum() > 70
    for players, seed in ((0, 0), (4, -1), (4, 2**64)):
        with pytest.raises(RequestError):
            get_sampling(name).plan(players, seed)
    with pytest.raises(RequestError, match="do not exist"):
        get_sampling(name).plan(4, 0).coalitions(3, 1)


def test_an_unknown_sampling():
    with pytest.raises(RequestError, match="did you mean antithetic"):
        get_sampling("antitetic")


# The bits that decide a row of a ledger must be the same in every release.
@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("strata", [63, 8, 48, 22, 15, 61, 63, 1]),
        ("antithetic", [1, 8, 10, 20, 50, 21, 2, 8]),
        ("permutation", [63, 1, 5, 7, 39, 55, 63, 8]),
        ("uniform", [27, 3, 29, 30, 26, 48, 9, 43]),
    ],
)
def test_plans_are_the_same_in_every_release(name, codes):
    rows = get_sampling(name).plan(6, 0).coalitions(0, 16)[0::2]
    assert (rows @ (1 << np.arange(6))).tolist() == codes


@settings(max_examples=60)
@given(st.integers(2, 60), seeds)
def test_antithetic_coalitions_share_no_player(players, seed):
    plan = get_sampling("antithetic").plan(players, seed)
    rows = plan.coalitions(0, 128)
    sizes = plan.row_sizes(0, len(rows))[0::4]
    first, second = rows[0::4], rows[2::4]
    shared = (first & second).sum(axis=1)
    np.testing.assert_array_equal(second.sum(axis=1), sizes)
    assert not shared[2 * sizes < players].any()
    # Half the players: as many in common with S as with its complement, not the complement itself again.
    np.testing.assert_array_equal(shared[2 * sizes == players], players // 4)


@settings(max_examples=60)
@given(st.integers(1, 60), seeds, st.integers(0, 20))
def test_walks_are_nested_from_nobody_to_everybody(players, seed, unit):
    plan = get_sampling("permutation").plan(players, seed)
    rows = plan.coalitions(unit * 2 * players, (unit + 1) * 2 * players)
    full, empty = rows[:2]
    assert full.all()
    assert not empty.any()
    forward = np.vstack([empty, rows[2::2], full])
    backward = np.vstack([empty, rows[3::2][::-1], full])
    for walk in (forward, backward):
        np.testing.assert_array_equal(walk.sum(axis=1), np.arange(players + 1))
        assert (walk[:-1] <= walk[1:]).all()
    joined = [(walk[1:] & ~walk[:-1]).argmax(axis=1) for walk in (forward, backward)]
    np.testing.assert_array_equal(joined[0], joined[1][::-1])


def test_orders_of_walks_are_uniform():
    rows = get_sampling("permutation").plan(4, 2).coalitions(0, 8 * 6000).reshape(6000, 4, 2, 4)[:, :, 0]
    order = rows[:, 1] @ np.arange(4) * 16 + (rows[:, 2] & ~rows[:, 1]) @ np.arange(4) * 4
    order = order + (rows[:, 3] & ~rows[:, 2]) @ np.arange(4)
    counts = np.unique(order, return_counts=True)[1]
    assert counts.size == 24
    assert ((counts - 250.0) ** 2 / 250).sum() < 49.7  # 0.999 quantile of chi-square with 23 degrees


@pytest.mark.parametrize("players", [5, 64, 130])
def test_uniform_coalitions_are_coins(players):
    rows = get_sampling("uniform").plan(players, 4).coalitions(0, 8000)[0::2].astype(float)
    assert np.abs(rows.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(4000)
    correlation = np.corrcoef(rows.T) - np.eye(players)
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)
    assert rows.sum(axis=1).var() == pytest.approx(players / 4, rel=0.12)


def test_the_pilot_of_neyman_is_a_strata_plan():
    for players in (3, 8, 90):
        plan, strata = (get_sampling(name).plan(players, 7) for name in ("neyman", "strata"))
        assert plan.pilot_rows % (2 * players) == 0
        assert plan.pilot_rows >= 128
        np.testing.assert_array_equal(plan.coalitions(0, plan.pilot_rows), strata.coalitions(0, plan.pilot_rows))


def spreading(plan, spread):
    """A pilot in which c(S) is plus or minus spread[folded size] by turns."""
    sizes = plan.row_sizes(0, plan.pilot_rows)[0::2]
    folds = np.minimum(sizes, plan.players - sizes)
    turn = np.zeros(len(folds))
    for fold in set(folds):
        turn[folds == fold] = np.resize([1, -1], (folds == fold).sum())
    # The sign of c(S) is that of the member with the folded size.
    pilot = np.zeros(plan.pilot_rows)
    pilot[0::2] = turn * np.where(2 * sizes > plan.players, -1, 1) * spread[folds] + 5
    pilot[1::2] = 5
    return pilot


def test_neyman_shares_are_proportional_to_the_spread():
    plan = NeymanPlan(9, 0)
    flat = plan.shares(spreading(plan, np.ones(5)))
    other = plan.shares(spreading(plan, np.array([1.0, 1, 2, 3, 1])))
    np.testing.assert_allclose(other / flat / (other / flat)[0], [1, 2, 3, 1], rtol=1e-12)
    assert flat.sum() == pytest.approx(1)
    assert other.sum() == pytest.approx(1)
    scaled = plan.shares(100 * spreading(plan, np.array([1.0, 1, 2, 3, 1])))
    np.testing.assert_allclose(scaled, other, rtol=1e-12)


def test_neyman_shares_are_the_optimum_of_an_additive_game():
    """Against the variances of every cell, by enumeration."""
    players = 8
    rows = all_coalitions(players)
    weights = np.array([0.0, 1, 3, 4, 4, 6, 9, 2])
    c, sizes = rows @ weights - ~rows @ weights, rows.sum(axis=1)
    parts, spread = [], [0.0]
    for fold in range(1, 5):
        same = sizes == fold
        inside = sum(c[same & rows[:, i]].var() for i in range(players))
        outside = sum(c[same & ~rows[:, i]].var() for i in range(players))
        half = 2 * fold == players
        parts.append(inside if half else players / fold * inside + players / (players - fold) * outside)
        spread.append(c[same].std())
    plan = NeymanPlan(players, 0)
    # Signs by turns have the sample variance m / (m - 1), with 16 pairs of each size and 8 of half the players.
    spread = np.array(spread) * np.sqrt([1, 15 / 16, 15 / 16, 15 / 16, 7 / 8])
    np.testing.assert_allclose(plan.shares(spreading(plan, spread)), np.sqrt(parts) / np.sqrt(parts).sum(), rtol=1e-9)


def test_neyman_keeps_a_floor_and_without_any_spread_divides_evenly():
    plan = NeymanPlan(9, 0)
    shares = plan.shares(spreading(plan, np.array([0.0, 0, 0, 1, 1])))
    assert (shares > 0.02).all()
    assert shares[2] + shares[3] > 0.9
    np.testing.assert_allclose(plan.shares(np.ones(plan.pilot_rows)), 0.25)


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(0, 100), st.integers(1, 3000))
def test_neyman_prefixes_are_balanced(players, seed, pairs):
    plan = NeymanPlan(players, 1)
    pilot = pilot_of(plan, seed)
    sizes = plan.row_sizes(plan.pilot_rows, plan.pilot_rows + 2 * pairs, pilot)[0::2]
    shares = plan.shares(pilot)
    assert sizes.max() <= max(1, players // 2)
    counts = np.bincount(sizes, minlength=shares.size + 1)[1:]
    assert np.abs(counts - pairs * shares).max() < 4


def test_neyman_pools_neighbours_where_its_pilot_is_small():
    plan = NeymanPlan(200, 0)
    folds = np.arange(101)
    wild = plan.shares(pilot_of(plan))
    smooth = np.sqrt((folds[1:] - 1) / folds[1:] ** 2.0 + (199 - folds[1:]) / (200 - folds[1:]) ** 2.0)
    ratio = (wild / smooth)[:-1]
    assert np.std(ratio) / ratio.mean() < 0.35  # one degree of freedom alone has 0.75


def test_neyman_needs_its_pilot_beyond_it():
    plan = NeymanPlan(6, 0)
    plan.coalitions(0, plan.pilot_rows)
    for pilot in (None, np.zeros(3), np.full(plan.pilot_rows, np.nan)):
        with pytest.raises(RequestError, match="depend on its pilot; give the finite utilities of rows 0 to 131"):
            plan.coalitions(plan.pilot_rows - 2, plan.pilot_rows + 1, pilot)
    with pytest.raises(RequestError, match="pilot"):
        plan.row_sizes(plan.pilot_rows, plan.pilot_rows + 1)
