"""Text to tokens on disk: the tasks of our stage against datatrove, `datasets` and a bare loop over tiktoken.

Everyone has the same trained tokenizer, the same corpus (Python's library and its tests), the same two warm worker
processes, and writes what it writes. The ids are compared. Against limits: 5 x the peers, 85% of the bare loop in each
worker (which reads nothing and writes nothing), 1.9 x one worker with two. Starting Ray is shown, and in no rate.
"""

import argparse
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
from measure import Result, arguments, compare, publish

from data.documents import Document, DocumentWriter, document_batches, read_documents
from data.shards import TokenShards
from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer
from pipeline.dag.folder import open_folder
from pipeline.stages.tokenize import Encoding, tokenize_shard

EOS = "<|endoftext|>"
SHARD_BYTES = 1 << 20


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--megabytes", type=int, default=25, help="of the corpus (default 25)")
    parser.add_argument("--only", default="", help="peers, workers, kinds or cases: one of the measurements")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards = write_corpus(folder / "corpus", _library(options.megabytes << 20))
        texts = [document.text for shard in shards for document in read_documents(shard)]
        tokenizers = {}
        for kind in TokenizerKind if options.only in ("", "kinds") else [TokenizerKind.byte_bpe]:
            rules = TokenizerRules(kind=kind, vocab_size=32768 if kind is TokenizerKind.byte_bpe else 8000)
            sample = texts if kind is TokenizerKind.byte_bpe else texts[::8]
            train_tokenizer(sample, rules=rules).save(folder / kind.name)
            tokenizers[kind.name] = folder / kind.name
        results = measured(options, folder, shards, tokenizers)
    return 0 if publish(results, json_file=options.json) else 1


def measured(
    options: argparse.Namespace, folder: Path, shards: list[Path], tokenizers: dict[str, Path]
) -> list[Result]:
    results = []
    with (
        ProcessPoolExecutor(2, get_context("spawn")) as two,
        ProcessPoolExecutor(1, get_context("spawn")) as one,
    ):
        bench = Bench(folder, tokenizers["byte_bpe"])
        if options.only in ("", "peers"):
            contenders = {
                "headrace": lambda: bench.ours(two, shards),
                "datatrove 0.10": lambda: bench.peer(two, run_datatrove, shards),
                "datasets 5.2 map": lambda: bench.peer(two, run_datasets, shards),
                "bare tiktoken loop": lambda: bench.peer(two, run_bare, shards),
            }
            for contender in contenders.values():
                contender()
            bench.check_ids(shards)
            results.append(compare("two workers", contenders, unit="tokens", repeats=options.repeats))
        if options.only in ("", "workers"):
            both = {
                "two workers": lambda: bench.ours(two, shards),
                "one worker": lambda: bench.ours(one, shards),
            }
            results.append(compare("workers", both, unit="tokens", repeats=options.repeats))
            alone = {
                "headrace": lambda: bench.ours(one, shards),
                "bare tiktoken loop": lambda: bench.peer(one, run_bare, shards),
            }
            results.append(compare("one worker", alone, unit="tokens", repeats=options.repeats))
        if options.only in ("", "kinds"):
            kinds = {
                name: lambda place=place: Bench(folder, place).ours(two, shards)
                for name, place in tokenizers.items()
            }
            results.append(compare("kinds", kinds, unit="tokens", repeats=options.repeats))
        if options.only in ("", "cases"):
            cases = {
                name: lambda case=case, size=size: bench.megabytes(two, case, size)
                for name, case, size in _cases(folder, shards)
            }
            results.append(compare("special texts", cases, unit="MB", repeats=options.repeats))
        if options.only in ("", "ray"):
            results.append(compare("starting Ray (in no rate)", {"ray": start_ray}, repeats=3, warmups=0))
    return results


class Bench:
    """A tokenizer, and folders to write into."""

    def __init__(self, folder: Path, tokenizer: Path) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.encoder = Tokenizer.load(tokenizer).encoder
        self.vocab_size = Tokenizer.load(tokenizer).vocab_size

    def ours(self, pool: ProcessPoolExecutor, shards: Sequence[Path]) -> float:
        """The stage's own tasks, one per shard."""
        output = open_folder(str(self.folder / "ours"))
        with_ = Encoding(open_folder(str(self.tokenizer)), self.encoder, can_cut=True)
        work = [
            (open_folder(str(shard.parent)), shard.name, output, with_, "documents", None) for shard in shards
        ]
        return float(sum(counters["tokens"] for counters in pool.map(_task, work)))

    def peer(self, pool: ProcessPoolExecutor, run: object, shards: Sequence[Path]) -> float:
        """Half of the shards in each worker."""
        workers = pool._max_workers  # noqa: SLF001 - the pool says it nowhere else
        work = [(run, self.tokenizer, shards[rank::workers], self.folder, rank) for rank in range(workers)]
        return float(sum(pool.map(_peer, work)))

    def megabytes(self, pool: ProcessPoolExecutor, shards: Sequence[Path], num_bytes: int) -> float:
        assert self.ours(pool, shards) > 0
        return num_bytes / 1e6

    def check_ids(self, shards: Sequence[Path]) -> None:
        """All write the same ids for the same half of the shards."""
        for rank in range(2):
            mine = [
                self.folder / "ours" / f"tokens-{shard.stem.partition('-')[2]}.arrow"
                for shard in shards[rank::2]
            ]
            tokens = TokenShards(mine).tokens
            ids = tokens.read(0, len(tokens))
            for name in ("datatrove", "datasets", "bare"):
                theirs = np.load(self.folder / f"{name}-{rank}.npy")
                assert np.array_equal(theirs, ids), f"{name} has other ids"


def _task(work: tuple) -> dict[str, int]:
    return tokenize_shard(*work)


def _peer(work: tuple) -> int:
    run, tokenizer, shards, folder, rank = work
    return run(tokenizer, shards, folder, rank)


def run_datatrove(tokenizer: Path, shards: Sequence[Path], folder: Path, rank: int) -> int:
    from datatrove.data import Document as Theirs
    from datatrove.pipeline.tokens import DocumentTokenizer

    step = DocumentTokenizer(
        str(folder / f"datatrove-{rank}"),
        str(tokenizer / "tokenizer.json"),
        eos_token=EOS,
        shuffle_documents=False,
        save_final_metadata=False,
        batch_size=1000,
    )
    step.run((Theirs(text=text, id=name) for name, text in _texts(shards)), rank=0)
    (written,) = (folder / f"datatrove-{rank}").glob("*.ds")
    return _keep(folder / f"datatrove-{rank}.npy", lambda: np.fromfile(written, dtype=np.uint16)) or (
        written.stat().st_size // 2
    )


def run_datasets(tokenizer: Path, shards: Sequence[Path], folder: Path, rank: int) -> int:
    import datasets
    import tokenizers

    datasets.disable_progress_bars()
    reference = tokenizers.Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    end = reference.token_to_id(EOS)
    table = pa.table({"text": [text for _, text in _texts(shards)]})

    def encode(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[*each.ids, end] for each in reference.encode_batch(rows["text"])]}

    features = datasets.Features({"input_ids": datasets.Sequence(datasets.Value("uint16"))})
    made = datasets.Dataset(table).map(
        encode,
        batched=True,
        remove_columns=["text"],
        features=features,
        cache_file_name=str(folder / f"datasets-{rank}-{time.monotonic_ns()}.arrow"),
    )
    column = made.data.column("input_ids").combine_chunks()
    return _keep(folder / f"datasets-{rank}.npy", lambda: column.flatten().to_numpy()) or len(
        column.flatten()
    )


def run_bare(tokenizer: Path, shards: Sequence[Path], folder: Path, rank: int) -> int:
    """Texts in memory, ids as lists; nothing is read or written while it runs but the shards' texts."""
    texts, encode = _warm(tokenizer, tuple(shards))
    total = 0
    for text in texts:
        total += len(encode(text)) + 1
    place = folder / f"bare-{rank}.npy"
    if not place.exists():
        end = Tokenizer.load(tokenizer).eos_id
        np.save(place, np.concatenate([[*encode(text), end] for text in texts]))
    return total


WARM: dict[tuple, tuple] = {}


def _warm(tokenizer: Path, shards: tuple[Path, ...]) -> tuple:
    """Texts and encoder, made in the first round, which does not count."""
    if shards not in WARM:
        texts = [text for _, text in _texts(shards)]
        loaded = Tokenizer.load(tokenizer)
        loaded.encode("warm")
        WARM[shards] = texts, loaded._fast.encode_ordinary  # noqa: SLF001 - tiktoken itself is what is wanted
    return WARM[shards]


def _keep(place: Path, ids: object) -> None:
    """For the comparison of ids, once."""
    if not place.exists():
        np.save(place, ids())


def _texts(shards: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for shard in shards:
        for batch in document_batches(shard):
            yield from zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)


def write_corpus(folder: Path, texts: Iterable[str]) -> list[Path]:
    """Shards of about SHARD_BYTES."""
    folder.mkdir()
    shards: list[Path] = []
    held: list[str] = []
    for text in [*texts, None]:
        if text is not None:
            held.append(text)
        if held and (text is None or sum(map(len, held)) > SHARD_BYTES):
            shards.append(folder / f"documents-{len(shards):05d}.arrow")
            with DocumentWriter(shards[-1]) as writer:
                for number, each in enumerate(held):
                    writer.write(Document(f"{number}", each, "library"))
            held = []
    return shards


def _library(num_bytes: int) -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if text and EOS not in text and "site-packages" not in path.parts:
            yield text
            num_bytes -= len(text.encode())
        if num_bytes <= 0:
            return


def _cases(folder: Path, shards: Sequence[Path]) -> Iterator[tuple[str, list[Path], int]]:
    """Texts that a rule of splitting, or a sum of lengths, could choke on."""
    draw = random.Random(0)
    words = "".join(text for _, text in _texts(shards))[: 8 << 20]
    han = [chr(point) for point in range(0x4E00, 0x4E00 + 3000)]
    weights = [1 / (rank + 1) for rank in range(len(han))]
    sentences = ("".join(draw.choices(han, weights, k=18)) + "\u3002" for _ in range(150_000))
    cases = {
        "library": [words[start : start + 20_000] for start in range(0, len(words), 20_000)],
        "one line of 8 MB": [" ".join(words.split())],
        "one document of 8 MB": [words],
        "8 MB without a space": ["".join(words.split())],
        "Chinese": ["".join(sentences)],
        "posts of 200 characters": [words[start : start + 200] for start in range(0, len(words), 200)],
    }
    for number, (name, texts) in enumerate(cases.items()):
        size = sum(len(text.encode()) for text in texts)
        yield name, write_corpus(folder / f"case-{number}", texts), size


def start_ray() -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.get(ray.remote(lambda: None).remote())
    ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
