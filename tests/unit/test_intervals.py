"""Intervals hold what they promise on data whose truth is known."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sft_runner.evaluation import intervals
from sft_runner.evaluation.metrics import statistics
from sft_runner.evaluation.metrics.metric import Metric, mean, metrics_of

EXACT = metrics_of(["exact_match"])


def right(values: "NDArray[Any]") -> dict[str, "NDArray[Any]"]:
    """Statistics of a metric that is right or wrong in each row."""
    return {"exact_match": np.array([values, np.ones(len(values))], dtype=float).T}


def losses(nats: "NDArray[Any]", tokens: "NDArray[Any]") -> dict[str, "NDArray[Any]"]:
    return {name: np.array([nats, tokens], dtype=float).T for name in ("loss", "perplexity")}


def ends(found: dict[str, Any], metric: str, side: str) -> tuple[float, float]:
    return found[metric][side]["low"], found[metric][side]["high"]


def holds(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


@pytest.mark.parametrize("rows", [15, 60])
def test_ninety_five_of_a_hundred_hold_the_truth(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 experiments in which what is true is known: nats by token of rows of different lengths, base and tuned model
    alike in what is hard, and the share of right answers."""
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)
    random = np.random.default_rng(7)
    held = dict.fromkeys(("loss base", "loss tuned", "loss gain", "share base", "share gain"), 0)
    count = 400
    for _ in range(count):
        tokens = random.integers(20, 60, rows)
        hard = random.gamma(4.0, 0.25, rows)  # of mean 1
        base = losses(tokens * (2.0 * hard + 0.2 * random.standard_normal(rows)), tokens)
        tuned = losses(tokens * (1.5 * hard + 0.2 * random.standard_normal(rows)), tokens)
        luck = random.random(rows)
        base |= right((luck + 0.2 * random.random(rows)) % 1 < 0.5)
        tuned |= right(luck < 0.7)
        found = intervals.paired(base, tuned, EXACT)
        for name, truth in {
            "loss base": 2.0, "loss tuned": 1.5, "loss gain": 0.5, "share base": 0.5, "share gain": 0.2,
        }.items():  # fmt: skip
            what, side = name.split()
            held[name] += holds(ends(found, {"loss": "loss", "share": "exact_match"}[what], side), truth)
    margin = 3 * math.sqrt(0.95 * 0.05 / count)
    for name, hits in held.items():
        assert 0.95 - margin <= hits / count <= 0.95 + margin, (name, hits / count)


@pytest.mark.parametrize(("rows", "least"), [(intervals.LEAST, 0.87), (8, 0.9)])
def test_intervals_of_few_rows_hold_the_truth_too(rows: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, with as few rows as have an interval: of a gain that is normal, and of one with a long tail."""
    monkeypatch.setattr(intervals, "RESAMPLES", 1000)
    random, ones = np.random.default_rng(7), np.ones(rows)
    count, held = 400, [0, 0]
    for _ in range(count):
        for which, gained in enumerate((random.standard_normal(rows), random.gamma(4.0, 0.25, rows) - 1)):
            found = intervals.paired(losses(gained, ones), losses(0 * gained, ones), [])
            held[which] += holds(ends(found, "loss", "gain"), 0)
    assert all(least <= hits / count <= 0.98 for hits in held), held


def test_a_small_case_by_a_loop_of_its_own() -> None:
    random = np.random.default_rng(3)
    nats, tokens = random.gamma(9, 2, 12), random.integers(5, 20, 12)
    better = nats * random.uniform(0.5, 1.1, 12)
    found = intervals.paired(losses(nats, tokens), losses(better, tokens), [])
    draws = np.random.default_rng(intervals.SEED)
    gains = []
    for _ in range(intervals.RESAMPLES):
        chosen = draws.integers(12, size=12)
        gains.append((nats[chosen].sum() - better[chosen].sum()) / tokens[chosen].sum())
    cut = intervals.tail(12)
    assert ends(found, "loss", "gain") == pytest.approx(np.quantile(gains, [cut, 1 - cut]))
    low, high = ends(found, "loss", "base")
    assert ends(found, "perplexity", "base") == pytest.approx((math.exp(low), math.exp(high)), rel=0.01)


def test_scipys_bootstrap_finds_the_same() -> None:
    scipy = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(5)
    nats, tokens = random.gamma(9, 2, 40), random.integers(5, 20, 40)
    better = nats * random.uniform(0.5, 1.1, 40)

    def gain(base: Any, tuned: Any, count: Any, axis: int) -> Any:
        return (base - tuned).sum(axis=axis) / count.sum(axis=axis)

    theirs = scipy.bootstrap(
        (nats, better, tokens), gain, paired=True, vectorized=True, method="percentile", n_resamples=20_000,
        confidence_level=1 - 2 * intervals.tail(40), rng=random,
    ).confidence_interval  # fmt: skip
    ours = ends(intervals.paired(losses(nats, tokens), losses(better, tokens), []), "loss", "gain")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low))


def test_few_rows_are_cut_further_out() -> None:
    from scipy.stats import norm, t

    for rows in (5, 10, 30, 1000):
        expected = norm.cdf(-t.ppf(0.975, rows - 1) * math.sqrt(rows / (rows - 1)))
        assert intervals.tail(rows) == pytest.approx(expected, rel=0.05)
    assert intervals.tail(100_000) == pytest.approx(0.025, rel=1e-3)


def test_pairing_narrows_the_interval_of_the_gain() -> None:
    random = np.random.default_rng(11)
    tokens, hard = random.integers(20, 60, 100), random.gamma(4.0, 0.25, 100)
    base, tuned = losses(2 * tokens * hard, tokens), losses(1.8 * tokens * hard, tokens)
    alike = intervals.paired(base, tuned, [])
    mixed = random.permutation(100)
    apart = intervals.paired(base, {name: matrix[mixed] for name, matrix in tuned.items()}, [])

    def width(found: dict[str, Any], side: str) -> float:
        low, high = ends(found, "loss", side)
        return high - low

    assert width(alike, "gain") < 0.2 * width(apart, "gain")
    assert width(alike, "tuned") == pytest.approx(width(apart, "tuned"), rel=0.1)


def test_few_rows_have_no_interval() -> None:
    for rows in range(1, intervals.LEAST + 1):
        nats = np.arange(1.0, rows + 1)
        found = intervals.paired(losses(nats, np.ones(rows)), losses(nats / 2, np.ones(rows)), [])
        assert bool(found) is (rows == intervals.LEAST)
    none = {"exact_match": np.full((5, 2), np.nan)}
    assert intervals.paired(none, none, EXACT) == {}
    assert intervals.paired({}, {}, []) == {}


def test_rows_that_do_not_count_are_not_drawn() -> None:
    random = np.random.default_rng(1)
    base, tuned = right(random.random(30) < 0.4), right(random.random(30) < 0.7)
    alone = intervals.paired(base, tuned, EXACT)
    spread = [np.insert(side["exact_match"], [0, 7, 30], np.nan, axis=0) for side in (base, tuned)]
    found = intervals.paired({"exact_match": spread[0]}, {"exact_match": spread[1]}, EXACT)
    assert found == alone
    members = [index for index in range(33) if not np.isnan(spread[0][index]).any()]
    assert intervals.paired({"exact_match": spread[0]}, {"exact_match": spread[1]}, EXACT, members) == alone
    assert "exact_match" not in intervals.paired(
        {"exact_match": spread[0]}, {"exact_match": spread[1]}, EXACT, [0, 1]
    )  # one of both counts


def test_where_all_rows_are_right_the_interval_is_the_exact_one() -> None:
    """By the rule of three: 20 of 20 say that at least 83 % are right, not that all are."""
    found = intervals.paired(right(np.zeros(20)), right(np.ones(20)), EXACT)
    assert ends(found, "exact_match", "tuned") == pytest.approx((0.8316, 1.0), abs=1e-4)
    assert ends(found, "exact_match", "base") == pytest.approx((0.0, 0.1684), abs=1e-4)
    assert ends(found, "exact_match", "gain") == pytest.approx((1 - 2 * 0.1684, 1.0), abs=1e-4)
    same = intervals.paired(right(np.ones(20)), right(np.ones(20)), EXACT)
    assert ends(same, "exact_match", "gain") == pytest.approx((-0.1684, 0.1684), abs=1e-4)
    tokens = np.full(20, 4)
    constant = intervals.paired(losses(2.0 * tokens, tokens), losses(1.0 * tokens, tokens), [])
    assert constant == {}  # nothing varies, and a loss has no bound that would say how much it might


def test_a_users_metric_that_is_right_or_wrong_has_the_exact_interval_too() -> None:
    """Its name does not say so; the rows do, where both values are there."""
    own = [mean("polite", lambda answer, expected: None)]
    wrong, all_right = ({"polite": right(values)["exact_match"]} for values in (np.zeros(20), np.ones(20)))
    found = intervals.paired(wrong, all_right, own)
    assert found["polite"] == intervals.paired(right(np.zeros(20)), right(np.ones(20)), EXACT)["exact_match"]
    assert intervals.paired(wrong, wrong, own) == {}  # an error may be 0 in each row and 7 in the next
    assert intervals.paired(wrong, {"polite": 2 * all_right["polite"]}, own) == {}


def test_groups_have_intervals_of_their_own() -> None:
    random = np.random.default_rng(2)
    base, tuned = right(random.random(40) < 0.3), right(random.random(40) < 0.8)
    found = intervals.with_parts(base, tuned, EXACT, {"unseen": list(range(10)), "one": [11]})
    assert found["by"]["one"] == {}
    first = intervals.paired(right(base["exact_match"][:10, 0]), right(tuned["exact_match"][:10, 0]), EXACT)
    assert found["by"]["unseen"] == first
    assert "by" not in intervals.with_parts(base, tuned, EXACT, {})


def words(random: Any, length: int) -> list[str]:
    return [f"w{number}" for number in random.integers(0, 30, length)]


def sentences(count: int) -> tuple[list[str], list[str], list[str]]:
    """References, and two systems' answers of different quality."""
    random = np.random.default_rng(4)
    references, worse, better = [], [], []
    for _ in range(count):
        said = words(random, random.integers(6, 20))
        references.append(" ".join(said))
        for side, share in ((worse, 0.4), (better, 0.25)):
            side.append(" ".join(word if random.random() > share else "x" for word in said))
    return references, worse, better


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_sacrebleus_own_bootstrap_is_close(name: str) -> None:
    from sacrebleu.metrics import BLEU, CHRF
    from sacrebleu.significance import PairedTest

    references, worse, better = sentences(150)
    metric: Metric
    (metric,) = metrics_of([name])
    sides = [
        {name: statistics.of_answers(metric, list(zip(side, references, strict=True)))} for side in (worse, better)
    ]
    found = intervals.paired(*sides, [metric])
    theirs = {"bleu": BLEU, "chrf": CHRF}[name](references=[references])
    _, rows = PairedTest([("worse", worse), ("better", better)], {name: theirs}, None, "bs", n_samples=2000)()
    for side, result in zip(("base", "tuned"), rows[{"bleu": "BLEU", "chrf": "chrF2"}[name]], strict=True):
        low, high = ends(found, name, side)
        assert (high - low) / 2 == pytest.approx(float(result.ci), rel=0.12)
        assert (high + low) / 2 == pytest.approx(float(result.mean), abs=0.3 * float(result.ci))


@pytest.mark.timeout(300)
def test_many_rows_take_little_memory() -> None:
    import tracemalloc

    random = np.random.default_rng(0)
    tokens = random.integers(20, 60, 100_000)
    base, tuned = (losses(tokens * random.random(100_000), tokens) for _ in range(2))
    tracemalloc.start()
    found = intervals.paired(base, tuned, [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    low, high = ends(found, "loss", "gain")
    assert 0 < high - low < 0.02
