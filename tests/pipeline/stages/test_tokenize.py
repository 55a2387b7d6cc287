"""The stage against one task that encodes everything: whatever the parts, the same bytes."""

import json

import pytest

from data.documents import Document, DocumentWriter
from data.shards import TokenShards
from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer
from pipeline.dag.folder import open_folder
from pipeline.dag.stage import Input
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.stages.tokenize import ENCODER, Tokenize, tokenize_shard

LINE = "The water turns the wheel, and 1234 wheels turn; \u4e2d\u6587\u3002\u6c34\u8f66\uff0c caf\u00e9.\n"
TEXTS = [
    "short",
    LINE * 3000,  # longer than several parts
    "x" * 70_000,  # nowhere to cut
    LINE,
    "\u4e2d\u6587\u6c34" * 20_000,
    *(f"{number} {LINE}" for number in range(200)),
    LINE * 700,
]


@pytest.fixture(scope="module", params=[TokenizerKind.byte_bpe, TokenizerKind.unigram], ids=lambda k: k.name)
def tokenizer(request) -> Tokenizer:
    return train_tokenizer([LINE * 5], rules=TokenizerRules(kind=request.param, vocab_size=400))


@pytest.fixture
def run(tmp_path, in_process, tokenizer):
    """Run the stage on the texts as one shard, or as several; its folder and its result."""
    tokenizer.save(tmp_path / "tokenizer")

    def written(num_shards: int) -> Input:
        folder, files = tmp_path / f"documents-{num_shards}", []
        folder.mkdir(exist_ok=True)
        for shard in range(num_shards):
            place = folder / f"documents-{shard:05d}.arrow"
            with DocumentWriter(place) as writer:
                for number, text in [*enumerate(TEXTS)][shard::num_shards]:
                    writer.write(Document(f"{number}", text, f"{number}.txt"))
            files.append(ManifestFile(place.name, place.stat().st_size, ""))
        given = Manifest("d", "k", "documents", "d", {}, {}, files)
        return Input("d", "", "documents", open_folder(str(folder)), given)

    def start(name: str, *, num_shards: int = 1):
        documents = written(num_shards)
        loaded = Input("t", "", "tokenizer", open_folder(str(tmp_path / "tokenizer")), documents.manifest)
        folders = [open_folder(str(tmp_path / name / each)) for each in ("output", "scratch")]
        inputs = {"documents": [documents], "tokenizer": [loaded]}
        context = in_process(inputs=inputs, output=folders[0], scratch=folders[1])
        return tmp_path / name / "output", Tokenize().run(context)

    return start


@pytest.mark.parametrize("part_bytes", [1 << 14, 50_000, 1 << 17])
def test_a_long_shard_in_parts_gives_the_bytes_of_one_task(run, tokenizer, monkeypatch, part_bytes):
    monkeypatch.setattr("data.ipc.BATCH_BYTES", 1 << 16)
    whole, counted = run("whole")
    monkeypatch.setattr("pipeline.stages.tokenize.PART_BYTES", part_bytes)
    parts, counted_in_parts = run("parts")
    names = "tokens-00000.arrow"
    assert (parts / names).read_bytes() == (whole / names).read_bytes()
    assert counted_in_parts == counted
    shards = TokenShards([parts / names], tokenizer_hash=tokenizer.hash)
    assert counted.counters == {
        "rows": len(TEXTS),
        "tokens": shards.num_tokens,
        "bytes": sum(len(text.encode()) for text in TEXTS),
    }
    starts = shards.row_starts
    for row, text in enumerate(TEXTS):
        ids = shards.tokens.read(int(starts[row]), int(starts[row + 1]))
        assert ids.tolist() == [*tokenizer.encode(text).tolist(), tokenizer.eos_id]


def test_an_encoder_that_disagrees_is_found_on_the_corpus_and_said(run, tokenizer, monkeypatch):
    expected, _ = run("before")
    if tokenizer.encoder == "tokenizers":
        assert (expected.parent / "output" / ENCODER).read_text().count('"its model is not BPE"') == 1
        return
    encode = Tokenizer._encode

    def wrong(self, texts):
        backwards = self.encoder == "tiktoken"
        return [ids[::-1] if backwards and len(ids) > 9 else ids for ids in encode(self, texts)]

    monkeypatch.setattr(Tokenizer, "_encode", wrong)
    found, result = run("after")
    assert result.metrics == {"is_fast_encoder": 0}
    assert "gives other ids for" in (found / ENCODER).read_text()
    names = "tokens-00000.arrow"
    assert (found / names).read_bytes() == (expected / names).read_bytes()


def test_followers_get_small_parts_first_and_shards_in_order(tmp_path, in_process, tokenizer):
    """What is announced is written, and in the order in which a training asks for it."""
    tokenizer.save(tmp_path / "tokenizer")
    sizes = {"train/documents-00000": 3, "train/documents-00001": 9, "validation/documents-00000": 2}
    files = []
    for name, num_lines in sizes.items():
        path = tmp_path / f"{name}.arrow"
        path.parent.mkdir(exist_ok=True)
        with DocumentWriter(path) as writer:
            writer.write(Document(name, LINE * num_lines, name))
        files.append(ManifestFile(f"{name}.arrow", path.stat().st_size, ""))
    given = Manifest("d", "k", "documents", "d", {}, {}, files)
    inputs = {
        "documents": [Input("d", "", "documents", open_folder(str(tmp_path)), given)],
        "tokenizer": [Input("t", "", "tokenizer", open_folder(str(tmp_path / "tokenizer")), given)],
    }
    order = []

    def map_in_order(function, items, **_):
        order.extend(items if function is tokenize_shard else ())
        return {name: function(*item) for name, item in items.items()}

    folders = [open_folder(str(tmp_path / each)) for each in ("output", "scratch")]
    context = in_process(
        inputs=inputs, output=folders[0], scratch=folders[1], map=map_in_order, is_followed=True
    )
    Tokenize().run(context)
    assert [name.removesuffix(".arrow") for name in order] == [
        "validation/documents-00000",
        "train/documents-00000",
        "train/documents-00001",
    ]
    written = [entry.name for entry in folders[0].files(".arrow")]
    assert sorted(Tokenize().announced(inputs)) == written


def test_an_encoder_that_disagrees_in_one_shard_encodes_none(run, tokenizer, monkeypatch):
    expected, counted = run("before", num_shards=10)
    encode = Tokenizer._encode

    def wrong(self, texts):
        backwards = self.encoder == "tiktoken"
        return [
            ids[::-1] if backwards and text == LINE else ids
            for text, ids in zip(texts, encode(self, texts), strict=True)
        ]

    monkeypatch.setattr(Tokenizer, "_encode", wrong)
    found, result = run("after", num_shards=10)
    assert result.metrics == {"is_fast_encoder": 0}
    assert result.counters == counted.counters
    said = json.loads((found / ENCODER).read_text())
    differs = f"tiktoken gives other ids for {LINE[:60]!r}"
    assert said["note"] == (differs if tokenizer.encoder == "tiktoken" else tokenizer.encoder_note)
    assert said["checked_bytes"] == json.loads((expected / ENCODER).read_text())["checked_bytes"]
    for place in sorted(expected.glob("tokens-*.arrow")):
        assert (found / place.name).read_bytes() == place.read_bytes()
