"""Word vectors from tokens: the same bytes however the tokens lie, those of bare gensim, and refusals."""

import numpy as np
import pytest
from gensim.models import FastText, Word2Vec

from data.errors import DataError
from data.shards import TokenFormat, TokenRow, TokenWriter
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer
from data.vectors.word_vectors import WordVectors
from model.embeddings.rules import Ngrams
from pipeline.dag.folder import open_folder
from pipeline.dag.stage import Input
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.stages.word_vectors import Algorithm, Context, LearnVectors

WORDS = [f"{begin}{end}" for begin in ("mill", "wheel", "dam", "gate") for end in ("", "s", "ed", "ing")]
CHANCE = np.random.default_rng(0)
TEXTS = [" ".join(CHANCE.choice(WORDS, CHANCE.integers(1, 60))) for _ in range(80)]
SMALL = {"width": 8, "min_count": 2, "num_epochs": 2, "ngrams": Ngrams(num_buckets=64)}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, rules=TokenizerRules(kind=TokenizerKind.word, vocab_size=30))


@pytest.fixture
def learn(tmp_path, in_process, tokenizer):
    """Run the stage on the texts as so many shards; the folder of its artifact and its result."""
    tokenizer.save(tmp_path / "tokenizer")
    form = TokenFormat(tokenizer.hash, tokenizer.vocab_size, tokenizer.eos_id)

    def written(num_shards: int) -> Input:
        folder, files = tmp_path / f"tokens-{num_shards}", []
        folder.mkdir(exist_ok=True)
        size = -(-len(TEXTS) // num_shards)
        for shard in range(num_shards):
            place = folder / f"tokens-{shard:05d}.arrow"
            with TokenWriter(place, token_format=form) as writer:
                for text in TEXTS[shard * size : (shard + 1) * size]:
                    ids = np.append(tokenizer.encode(text), np.uint32(tokenizer.eos_id))
                    writer.write(TokenRow("id", "source", len(text), ids))
            files.append(ManifestFile(place.name, place.stat().st_size, ""))
        manifest = Manifest("t", "k", "tokens", "t", {}, {}, files)
        return Input("t", "", "tokens", open_folder(str(folder)), manifest)

    def start(name: str, *, num_shards: int = 1, **settings):
        tokens = written(num_shards)
        made_by = Input("z", "", "tokenizer", open_folder(str(tmp_path / "tokenizer")), tokens.manifest)
        folders = [open_folder(str(tmp_path / name / each)) for each in ("output", "scratch")]
        inputs = {"tokens": [tokens], "tokenizer": [made_by]}
        context = in_process(inputs=inputs, output=folders[0], scratch=folders[1])
        return tmp_path / name / "output", LearnVectors(**SMALL | settings).run(context)

    return start


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_the_same_tokens_give_the_same_bytes_however_they_lie(learn, algorithm):
    one, first = learn("one", algorithm=algorithm)
    other, second = learn("other", algorithm=algorithm, num_shards=5)
    names = [path.name for path in sorted(one.iterdir())]
    assert [(other / name).read_bytes() for name in names] == [(one / name).read_bytes() for name in names]
    assert first.counters == second.counters
    assert first.counters["learned_tokens"] == sum(len(text.split()) for text in TEXTS)
    assert first.counters["tokens"] == first.counters["learned_tokens"] + len(TEXTS)  # each text's end
    assert first.metrics == second.metrics


@pytest.mark.parametrize("context", list(Context))
def test_word2vec_is_bare_gensims_on_the_words(learn, context):
    folder, _ = learn("ours", context=context)
    found = WordVectors.load(folder)
    options = {"vector_size": 8, "epochs": 2, "min_count": 2, "workers": 1, "seed": 0, "sorted_vocab": 0}
    theirs = Word2Vec(sg=int(context is Context.skip_gram), **options)
    theirs.build_vocab_from_freq(dict(zip(found.words, found.counts.tolist(), strict=True)))
    theirs.train([text.split() for text in TEXTS], total_examples=len(TEXTS), epochs=2)
    np.testing.assert_array_equal(found.vectors, theirs.wv.vectors)


def test_fasttext_knows_words_that_were_not_there(learn):
    found = WordVectors.load(learn("ours", algorithm=Algorithm.fasttext)[0])
    theirs = FastText(vector_size=8, sg=1, min_count=2, workers=1, seed=0, sorted_vocab=0, bucket=64)
    theirs.build_vocab_from_freq(dict(zip(found.words, found.counts.tolist(), strict=True)))
    theirs.train([text.split() for text in TEXTS], total_examples=len(TEXTS), epochs=2)
    np.testing.assert_allclose(found.vector("millwheels"), theirs.wv["millwheels"], rtol=1e-5, atol=1e-7)


def test_glove_counts_over_all_shards_and_learns_less_loss(learn):
    short, long = (learn(f"{n}", algorithm=Algorithm.glove, num_epochs=n, num_shards=3)[1] for n in (1, 30))
    assert short.counters["pairs"] == len(WORDS) * (len(WORDS) + 1) // 2
    assert long.metrics["train/loss"] < short.metrics["train/loss"] / 2


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"width": 0}, "width"),
        ({"min_count": 0}, "min_count"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"window": 21, "algorithm": Algorithm.glove}, "window"),
        ({"ngrams": Ngrams(min_n=4, max_n=3)}, "ngrams.max_n"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, field):
    assert [problem.field for problem in LearnVectors(**settings).problems()] == [field]
    assert LearnVectors().problems() == []


def test_a_corpus_without_frequent_words_is_refused(learn):
    with pytest.raises(DataError, match="frequent enough"):
        learn("rare", min_count=10_000)
