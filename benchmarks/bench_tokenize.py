"""Text to tokens on disk: the tasks of our stage against datatrove, `datasets` and a bare loop over tiktoken.

Everyone has the same trained tokenizer, the same corpus (Python's library and its tests), the same two warm worker
processes, and writes what it writes. The ids are compared. Required: 5 x the peers; 85% of the bare loop (which reads
nothing and writes nothing); with two workers 1.9 x one, or as good as all of what two bare loops gain over one where
the machine gives less; other kinds of vocabulary at 85% of a bare loop over `tokenizers`; no text so special that it
takes more than 4 x the time of source code. Starting Ray is shown, and in no rate.
"""

import argparse
import random
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from measure import Figure, Limit, Result, arguments, compare, publish
from tokenize_peers import EOS, Peer, run_bare, run_datasets, run_datatrove, texts_of

from data.documents import Document, DocumentWriter
from data.shards import TokenShards
from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer
from pipeline.dag.folder import open_folder
from pipeline.stages.tokenize import Encoding, tokenize_shard

SHARD_BYTES = 1 << 20
PEERS, OF_BARE, WORKERS, OF_CEILING, SLOWEST = 5.0, 0.85, 1.9, 0.97, 4.0
SMALL_VOCAB, KIND_SHARDS = 8000, 4


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--megabytes", type=int, default=25, help="of the corpus (default 25)")
    parser.add_argument("--only", nargs="+", default=list(MEASUREMENTS), choices=MEASUREMENTS)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        ProcessPoolExecutor(2, get_context("spawn")) as two,
        ProcessPoolExecutor(1, get_context("spawn")) as one,
    ):
        folder = Path(temporary)
        shards = write_corpus(folder / "corpus", _library(options.megabytes << 20))
        bench = Bench(folder, shards, _trained(folder, shards, TokenizerKind.byte_bpe), two, one)
        results = [each for name in options.only for each in MEASUREMENTS[name](bench, options)]
    return 0 if publish(results, json_file=options.json) else 1


@dataclass(frozen=True)
class Bench:
    """A corpus, a tokenizer, warm workers, and a folder to write into."""

    folder: Path
    shards: Sequence[Path]
    tokenizer: Path
    two: ProcessPoolExecutor
    one: ProcessPoolExecutor

    @cached_property
    def encoding(self) -> Encoding:
        loaded = Tokenizer.load(self.tokenizer)
        return Encoding(open_folder(str(self.tokenizer)), loaded.encoder, loaded.can_cut)

    def ours(self, pool: ProcessPoolExecutor) -> float:
        """The stage's own tasks, one per shard."""
        output = open_folder(str(self.folder / "ours"))
        work = [(open_folder(str(each.parent)), each.name, output, self.encoding) for each in self.shards]
        return float(sum(pool.map(_task, work)))

    def peer(self, run: Peer) -> float:
        """Half of the shards in each of two workers; its ids are kept."""
        work = [(run, self.tokenizer, self.shards[rank::2], self.folder, rank) for rank in range(2)]
        return float(sum(self.two.map(_peer, work)))

    def bare(self, pool: ProcessPoolExecutor) -> float:
        """A bare loop for each shard, as our tasks are."""
        work = [(run_bare, self.tokenizer, [shard], self.folder, -1) for shard in self.shards]
        return float(sum(pool.map(_peer, work)))

    def check_ids(self) -> None:
        """All write the same ids for the same half of the shards."""
        for rank in range(2):
            shards = self.shards[rank::2]
            names = [f"tokens-{shard.stem.partition('-')[2]}.arrow" for shard in shards]
            tokens = TokenShards([self.folder / "ours" / name for name in names]).tokens
            ids = tokens.read(0, len(tokens))
            for name in ("datatrove", "datasets", "bare"):
                theirs = np.load(self.folder / f"{name}-{rank}.npy")
                assert np.array_equal(theirs, ids), f"{name} has other ids"


def peers(bench: Bench, options: argparse.Namespace) -> Iterator[Result]:
    contenders = {
        "headrace": lambda: bench.ours(bench.two),
        "datatrove 0.10": lambda: bench.peer(run_datatrove),
        "datasets 5.2 map": lambda: bench.peer(run_datasets),
        "bare tiktoken loop": lambda: bench.peer(run_bare),
    }
    for contender in contenders.values():
        contender()
    bench.check_ids()
    least = {"datatrove 0.10": PEERS, "datasets 5.2 map": PEERS, "bare tiktoken loop": OF_BARE}
    yield compare("two workers", contenders, unit="tokens", repeats=options.repeats, least_ratios=least)


def workers(bench: Bench, options: argparse.Namespace) -> Iterator[Result]:
    contenders = {
        "two workers": lambda: bench.ours(bench.two),
        "one worker": lambda: bench.ours(bench.one),
        "two bare tiktoken loops": lambda: bench.bare(bench.two),
        "one bare tiktoken loop": lambda: bench.bare(bench.one),
    }
    result = compare("two workers and one", contenders, unit="tokens", repeats=options.repeats)
    ours, bare = result.figures[:2], result.figures[2:]
    gain, ceiling = _gain(*ours), _gain(*bare)
    result.limits.append(Limit("times one worker", gain, least=min(WORKERS, OF_CEILING * ceiling)))
    result.limits.append(Limit("one worker, times one bare loop", _gain(ours[1], bare[1]), least=OF_BARE))
    result.facts.update({"two bare loops over one": round(ceiling, 3)})
    yield result


def _gain(one: Figure, other: Figure) -> float:
    """How many times as fast the one is as the other, of the best rounds: what a neighbour took is in the others."""
    return (min(other.seconds) / other.units[0]) / (min(one.seconds) / one.units[0])


def kinds(bench: Bench, options: argparse.Namespace) -> Iterator[Result]:
    """Vocabularies that `tokenizers` encodes with."""
    for kind in (kind for kind in TokenizerKind if kind is not TokenizerKind.byte_bpe):
        shards = bench.shards[:: max(1, len(bench.shards) // KIND_SHARDS)]
        of_kind = Bench(bench.folder, shards, _trained(bench.folder, shards, kind), bench.two, bench.one)
        contenders = {
            "headrace": partial(of_kind.ours, bench.two),
            "bare tokenizers loop": partial(of_kind.bare, bench.two),
        }
        least = {"bare tokenizers loop": OF_BARE}
        yield compare(
            f"kind {kind.name}", contenders, unit="tokens", repeats=options.repeats, least_ratios=least
        )


def cases(bench: Bench, options: argparse.Namespace) -> Iterator[Result]:
    """One worker each: several of them are a single document."""
    contenders = {}
    for name, shards, num_bytes in _cases(bench):
        of_case = Bench(bench.folder, shards, bench.tokenizer, bench.two, bench.one)
        contenders[name] = partial(_megabytes, partial(of_case.ours, bench.one), num_bytes)
    result = compare("special texts", contenders, unit="MB", repeats=options.repeats)
    for each in result.figures[1:]:
        result.limits.append(Limit(f"{each.name}: times the time of source code", each.ratio, most=SLOWEST))
    yield result


def ray(_bench: Bench, _options: argparse.Namespace) -> Iterator[Result]:
    yield compare("starting Ray (in no rate)", {"ray": _start_ray}, repeats=3, warmups=0)


MEASUREMENTS: dict[str, Callable[[Bench, argparse.Namespace], Iterator[Result]]] = {
    each.__name__: each for each in (peers, workers, kinds, cases, ray)
}


def _megabytes(run: Callable[[], float], num_bytes: int) -> float:
    assert run() > 0
    return num_bytes / 1e6


def _task(work: tuple) -> int:
    return tokenize_shard(*work, "documents", None)["tokens"]


def _peer(work: tuple) -> int:
    run, *rest = work
    return run(*rest)


def _trained(folder: Path, shards: Sequence[Path], kind: TokenizerKind) -> Path:
    size = 32768 if kind is TokenizerKind.byte_bpe else SMALL_VOCAB
    texts = [text for _, text in texts_of(shards)]
    train_tokenizer(texts, rules=TokenizerRules(kind=kind, vocab_size=size)).save(folder / kind.name)
    return folder / kind.name


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


def _cases(bench: Bench) -> Iterator[tuple[str, list[Path], int]]:
    """Texts that a rule of splitting, or a sum of lengths, could choke on; source code first."""
    draw = random.Random(0)
    words = "".join(text for _, text in texts_of(bench.shards))[: 8 << 20]
    han = [chr(point) for point in range(0x4E00, 0x4E00 + 3000)]
    weights = [1 / (rank + 1) for rank in range(len(han))]
    sentences = ("".join(draw.choices(han, weights, k=18)) + "\u3002" for _ in range(150_000))
    found = {
        "source code": [words[start : start + 20_000] for start in range(0, len(words), 20_000)],
        "one line of 8 MB": [" ".join(words.split())],
        "one document of 8 MB": [words],
        "8 MB without a space": ["".join(words.split())],
        "Chinese": ["".join(sentences)],
        "posts of 200 characters": [words[start : start + 200] for start in range(0, len(words), 200)],
    }
    for number, (name, texts) in enumerate(found.items()):
        size = sum(len(text.encode()) for text in texts)
        yield name, write_corpus(bench.folder / f"case-{number}", texts), size


def _start_ray() -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.get(ray.remote(lambda: None).remote())
    ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
