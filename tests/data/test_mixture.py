from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batches import IGNORED, TrainingBatches
from data.errors import DataError
from data.example_rows import ExampleSequences
from data.mixture import Mixture, MixtureRules, plan_counts
from data.packed import Boundaries, PackedSequences
from tests.data.test_batches import SPLITS, whole_batch

SIZES = {"code": 3000, "prose": 1000, "dialogue": 50}


@given(counts=st.lists(st.integers(0, 20_000), min_size=1, max_size=5).filter(any), seed=st.integers(0, 9))
def test_every_place_of_every_source_is_drawn_once(counts, seed):
    sources, places = Mixture(counts, seed=seed).draw(0, count=sum(counts))
    for source, count in enumerate(counts):
        assert np.array_equal(np.sort(places[sources == source]), np.arange(count))


@given(first=st.integers(0, 9_000), count=st.integers(1, 1_000))
def test_a_draw_is_the_same_from_wherever_it_is_asked(first, count):
    mixture = Mixture([7_000, 2_999, 1], seed=3)
    whole = mixture.draw(0, count=mixture.num_draws)
    part = mixture.draw(first, count=count)
    assert all(np.array_equal(a[first : first + count], b) for a, b in zip(whole, part, strict=True))


def test_every_prefix_has_about_the_shares_of_the_whole():
    mixture = Mixture([60_000, 30_000, 10_000], seed=0)
    sources, _ = mixture.draw(0, count=20_000)
    shares = np.bincount(sources) / len(sources)
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.01)
    first, places = mixture.draw(0, count=4096)
    assert places[first == 2].max() < 500, "a source is read from its beginning"


def test_shares_come_from_weights_or_from_sizes():
    by_weight = plan_counts(
        MixtureRules(weights={"code": 2, "prose": 1, "dialogue": 1}), SIZES, num_draws=1001
    )
    assert by_weight == {"code": 501, "prose": 250, "dialogue": 250}
    by_size = plan_counts(MixtureRules(), SIZES, num_draws=405)
    assert by_size == {"code": 300, "prose": 100, "dialogue": 5}
    even = plan_counts(MixtureRules(temperature=2.0), SIZES, num_draws=405)
    assert even["dialogue"] > by_size["dialogue"]
    assert even["code"] < by_size["code"]


def test_a_source_at_its_cap_leaves_the_rest_to_the_others_in_proportion():
    rules = MixtureRules(weights={"code": 3, "prose": 1, "dialogue": 4}, max_epochs={"dialogue": 2})
    assert plan_counts(rules, SIZES, num_draws=4100) == {"code": 3000, "prose": 1000, "dialogue": 100}
    both = MixtureRules(max_epochs={"code": 1, "dialogue": 1})
    assert plan_counts(both, SIZES, num_draws=6050) == {"code": 3000, "prose": 3000, "dialogue": 50}


def test_caps_that_leave_too_little_are_an_error():
    rules = MixtureRules(max_epochs=dict.fromkeys(SIZES, 1.0))
    with pytest.raises(DataError, match="4,050 sequences of the 4,051"):
        plan_counts(rules, SIZES, num_draws=4051)
    assert plan_counts(rules, SIZES, num_draws=4050) == SIZES


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
    epochs=st.lists(st.none() | st.floats(0.1, 9), min_size=3, max_size=3),
    num_draws=st.integers(1, 5_000),
)
def test_counts_add_up_and_stay_below_their_caps(weights, epochs, num_draws):
    names = list(SIZES)
    caps = {name: cap for name, cap in zip(names, epochs, strict=True) if cap is not None}
    rules = MixtureRules(dict(zip(names, weights, strict=True)), max_epochs=caps)
    try:
        counts = plan_counts(rules, SIZES, num_draws=num_draws)
    except DataError:
        assert sum(int(caps[name] * SIZES[name]) for name in caps) < num_draws
        return
    assert sum(counts.values()) == num_draws
    assert all(counts[name] <= cap * SIZES[name] for name, cap in caps.items())


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        (MixtureRules(temperature=0.5), "temperature"),
        (MixtureRules(temperature=2.0, weights={"a": 1}), "temperature"),
        (MixtureRules(weights={"a": -1, "b": 2}), "weights.a"),
        (MixtureRules(weights={"a": 0}), "weights"),
        (MixtureRules(max_epochs={"a": 0}), "max_epochs.a"),
    ],
)
def test_rules_that_cannot_be_are_named(rules, field):
    assert field in [problem.field for problem in rules.problems()]


def test_weights_name_every_source_and_caps_none_but_sources():
    assert MixtureRules(weights={"a": 1}).name_problems(["a", "b"])[0].field == "weights"
    assert MixtureRules(max_epochs={"c": 1}).name_problems(["a", "b"])[0].field == "max_epochs"
    assert MixtureRules(weights={"a": 1, "b": 0}, max_epochs={"a": 1}).name_problems(["a", "b"]) == []


@pytest.mark.parametrize("boundaries", list(Boundaries))
def test_a_mixed_batch_is_the_same_for_every_split_and_counts_its_sources(write_shards, tmp_path, boundaries):
    sources = []
    for base, rows in ((100, 40), (500, 15)):
        (tmp_path / str(base)).mkdir()
        sources.append(
            write_shards([[base + k, base + k + 1, 0] for k in range(rows)], folder=tmp_path / str(base))
        )
    pools = [PackedSequences(source, seq_len=4, boundaries=boundaries) for source in sources]
    batches = TrainingBatches(pools, sequences_per_step=8, seed=1, mixture=Mixture([60, 20], seed=1))
    seen = Counter()
    for step in range(10):
        expected = whole_batch(batches, step, SPLITS[0])
        for split in SPLITS[1:]:
            found = whole_batch(batches, step, split)
            assert all(np.array_equal(expected[name], found[name]) for name in expected)
            check_sources(batches, step, split, found)
        counted = [int((expected["labels"] != IGNORED)[is_of(expected, source)].sum()) for source in (0, 1)]
        assert batches.targets_by_source(step) == counted
        seen.update("first" if max(row) < 500 else "second" for row in expected["input_ids"].tolist())
        assert len(batches.document_names(step, limit=3)) >= 3
    assert seen == {"first": 60, "second": 20}


def is_of(batch, source):
    return (batch["input_ids"].max(axis=1) >= 500) == bool(source)


def check_sources(batches, step, split, whole):
    """Of every rank and micro-step, the sources are those that the tokens tell of."""
    world_size, micro_batch_size, micro_steps = split
    found = [
        batches.sources(
            step,
            rank=rank,
            world_size=world_size,
            micro_step=micro_step,
            micro_batch_size=micro_batch_size,
        )
        for micro_step in range(micro_steps)
        for rank in range(world_size)
    ]
    assert np.array_equal(np.concatenate(found), is_of(whole, 1))


def test_examples_of_several_sources_are_padded_together(write_shards, tmp_path):
    (tmp_path / "long").mkdir()
    short = write_shards([([1, 2, 0], [0, 1, 1])] * 5, has_loss_mask=True)
    long = write_shards([([*range(3, 30), 0], [1] * 28)] * 5, has_loss_mask=True, folder=tmp_path / "long")
    pools = [ExampleSequences(shards, seq_len=64, pad_id=0) for shards in (short, long)]
    batches = TrainingBatches(pools, sequences_per_step=4, seed=0, mixture=Mixture([2, 2], seed=0))
    batch = whole_batch(batches, 0, (1, 4, 1))
    assert batch["input_ids"].shape == (4, 32)
    assert sorted((batch["labels"] != IGNORED).sum(axis=1).tolist()) == [2, 2, 27, 27]
    assert batches.num_targets(0) == 58
