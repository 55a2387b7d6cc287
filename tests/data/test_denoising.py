"""What objectives make of sequences is a function of their place alone, and leaves as many targets as it says."""

import numpy as np
import pytest

from data.batches import IGNORED, TrainingBatches
from data.corruption import SpanCorruption, TokenMasking
from data.denoising import Masks, Prefixes, Spans
from data.errors import DataError
from data.fitted import Fit, FittedSequences
from data.heldout import EvalPool
from data.packed import PackedSequences
from data.pair_rows import PairSequences
from data.shards import TokenFormat, TokenRow, TokenShards, TokenWriter
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer

VOCAB_SIZE, MASK_ID, EOS_ID = 50, 2, 0
IS_CONTROL = np.arange(VOCAB_SIZE) < 12
TEXT = "the mill wheel's turning, and the water_gate turns: naïve 水車 mills"


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> TokenShards:
    path, draw = tmp_path_factory.mktemp("tokens") / "tokens-00000.arrow", np.random.default_rng(0)
    with TokenWriter(path, token_format=TokenFormat("h", VOCAB_SIZE, EOS_ID)) as writer:
        for row in range(40):
            ids = draw.integers(12, VOCAB_SIZE, draw.integers(5, 60))
            writer.write(TokenRow(str(row), "made", len(ids), np.append(ids, EOS_ID)))
    return TokenShards([path])


CORRUPTIONS = {
    "masks": Masks(TokenMasking(), 7, MASK_ID, VOCAB_SIZE, IS_CONTROL),
    "spans": Spans(SpanCorruption(), 7, np.arange(3, 12), EOS_ID, start_id=1),
    "prefixes": Prefixes(7),
}


@pytest.fixture(params=CORRUPTIONS)
def batches(request, shards) -> TrainingBatches:
    pool = PackedSequences(shards, seq_len=48)
    return TrainingBatches([pool], sequences_per_step=8, seed=3, corruption=CORRUPTIONS[request.param])


def whole(batches: TrainingBatches, step: int) -> dict[str, np.ndarray]:
    return batches.batch(step, rank=0, world_size=1, micro_step=0, micro_batch_size=8)


def test_a_global_batch_is_the_same_however_it_is_shared_out(batches):
    wanted = whole(batches, 5)
    for world_size, size in ((1, 2), (2, 1), (4, 2)):
        parts = [
            batches.batch(5, rank=rank, world_size=world_size, micro_step=micro_step, micro_batch_size=size)
            for micro_step in range(8 // size // world_size)
            for rank in range(world_size)
        ]
        assert all(
            np.array_equal(np.concatenate([part[name] for part in parts]), wanted[name]) for name in wanted
        )


def test_targets_are_counted_without_looking_at_all_of_them(batches):
    for step in range(4):
        assert batches.num_targets(step) == (whole(batches, step)["labels"] != IGNORED).sum()


def test_a_sequence_is_hidden_otherwise_each_time_it_comes(batches):
    again = batches.num_sequences  # as many steps later every sequence has the same place in its epoch
    seen = {}
    for step in range(again):
        batch = whole(batches, step)
        for sequence, row in zip(batches.sequence_ids(step).tolist(), batch["labels"], strict=True):
            seen.setdefault(sequence, set()).add(row.tobytes())
    assert min(len(rows) for rows in seen.values()) > 1


def test_padding_is_neither_seen_nor_hidden(shards):
    pool = FittedSequences(shards, seq_len=64, fit=Fit.one)
    batches = TrainingBatches([pool], sequences_per_step=8, seed=3, corruption=CORRUPTIONS["masks"])
    batch, plain = whole(batches, 0), pool.batch(batches.sequence_ids(0))
    is_real = plain["labels"] != IGNORED
    assert np.array_equal(batch["attention_mask"], is_real)
    assert (batch["labels"][~is_real] == IGNORED).all()
    assert np.array_equal(batch["input_ids"][~is_real], plain["input_ids"][~is_real])
    assert (batch["labels"][batch["labels"] != IGNORED] >= 12).all(), "control tokens are never masked"


def test_no_token_of_a_prefix_is_a_target(shards):
    batches = TrainingBatches(
        [PackedSequences(shards, seq_len=48)],
        sequences_per_step=8,
        seed=3,
        corruption=CORRUPTIONS["prefixes"],
    )
    batch, plain = whole(batches, 0), PackedSequences(shards, seq_len=48).batch(batches.sequence_ids(0))
    lengths = batch["prefix_mask"].sum(axis=1)
    for row, length in enumerate(lengths.tolist()):
        assert (batch["labels"][row, : length - 1] == IGNORED).all()
        assert np.array_equal(batch["labels"][row, length - 1 :], plain["labels"][row, length - 1 :])


@pytest.mark.parametrize("kind", TokenizerKind)
def test_words_are_parted_where_a_reader_parts_them(kind):
    tokenizer = train_tokenizer([TEXT] * 3, rules=TokenizerRules(kind=kind, vocab_size=380, min_frequency=1))
    ids = tokenizer.encode(TEXT).astype(np.int64)[None]
    begins = np.flatnonzero(tokenizer.word_edges().starts(ids)[0])
    words = [tokenizer.decode(part).replace(" ", "") for part in np.split(ids[0], begins[1:])]
    assert {"mill", "turning", "turns"} <= set(words)
    assert "".join(words) == tokenizer.decode(ids[0]).replace(" ", "")


@pytest.mark.parametrize("kind", [TokenizerKind.byte_bpe, TokenizerKind.wordpiece])
def test_whole_words_are_hidden_together(kind):
    texts = [TEXT, "turning turns mill"]
    tokenizer = train_tokenizer(texts, rules=TokenizerRules(kind=kind, vocab_size=290, min_frequency=9))
    edges = tokenizer.word_edges()
    tokens = tokenizer.encode(TEXT).astype(np.int64)[None]
    is_control = np.zeros(tokenizer.vocab_size, dtype=bool)
    rules = TokenMasking(fraction=0.4, whole_words=True)
    masks = Masks(rules, 1, 0, tokenizer.vocab_size, is_control, edges)
    places = np.array([4])
    batch = {"input_ids": tokens, "labels": tokens}
    hidden = masks.corrupt(batch, places)["labels"][0] != IGNORED
    words = np.cumsum(edges.starts(tokens)[0])
    assert 0 < hidden.sum() == masks.num_targets(batch, places)[0]
    assert all(len(set(hidden[words == word])) == 1 for word in set(words.tolist()))


def test_control_tokens_of_objectives_are_found_by_their_names():
    rules = TokenizerRules(vocab_size=300, special_tokens=["<user>", "<mask>"], num_sentinels=3)
    tokenizer = train_tokenizer(["a b"], rules=rules)
    assert tokenizer.mask_id == tokenizer.special_ids["<mask>"]
    assert tokenizer.sentinel_ids == [tokenizer.special_ids[f"<extra_id_{number}>"] for number in range(3)]
    plain = train_tokenizer(["a b"], rules=TokenizerRules(vocab_size=300))
    assert (plain.mask_id, plain.sentinel_ids) == (None, [])


def pairs(path, examples: list[tuple[list[int], list[int]]]) -> TokenShards:
    with TokenWriter(
        path / "tokens-00000.arrow", token_format=TokenFormat("h", 99, EOS_ID, has_loss_mask=True)
    ) as writer:
        for number, (source, target) in enumerate(examples):
            mask = np.array([0] * len(source) + [1] * len(target), dtype=np.uint8)
            writer.write(TokenRow(str(number), "made", 1, [*source, *target], mask))
    return TokenShards([path / "tokens-00000.arrow"])


def test_a_pair_is_its_prompt_and_its_response(tmp_path):
    shards = pairs(tmp_path, [([11, 12, 13], [21, 0]), ([14], [22, 23, 24, 25, 0]), ([], [26, 0])])
    pool = PairSequences(shards, seq_len=4, start_id=1)
    batch = pool.batch(np.arange(3))
    assert batch["input_ids"].tolist() == [[11, 12, 13, 0], [14, 0, 0, 0], [0, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[21, 0, -100, -100], [22, 23, 24, 25], [26, 0, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[1, 21, 0, 0], [1, 22, 23, 24], [1, 26, 0, 0]]
    assert pool.num_targets(np.arange(3)) == 8 == (batch["labels"] != IGNORED).sum()
    held_out = EvalPool(pool)
    sizes = [
        len(held_out.batch(index, rank=0, world_size=1, micro_batch_size=2)["labels"])
        for index in range(held_out.num_batches(world_size=1, micro_batch_size=2))
    ]
    assert (sizes, held_out.num_targets) == ([2, 1], 8)


def test_plain_text_has_no_pairs(shards):
    with pytest.raises(DataError, match="plain text") as caught:
        PairSequences(shards, seq_len=8, start_id=1)
    assert caught.value.allowed == "tokenized examples"
