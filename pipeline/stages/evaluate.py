"""`evaluate`: the loss on held-out text, what follows from it, and what the model writes."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from data.corruption import SpanCorruption, TokenMasking
from model.config import ADDED_LATER
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Channel, Problem, Stage, StageContext, StageResult, below, port
from pipeline.stages.sharding import shard_names

if TYPE_CHECKING:
    from data.shards import TokenShards
    from data.tokenizer import Tokenizer
    from model.base import LanguageModel


@dataclass
class Evaluate(Stage):
    """Measures a model on held-out documents, or on the responses of held-out examples.

    A decoder gives the loss of each token, once, with perplexity and bits per byte. An encoder gives that of masked
    tokens, which is no likelihood of the text, and the fraction of them that it finds. An encoder-decoder gives that
    of the responses of examples, or in plain text of the spans that are left out.
    """

    name: ClassVar[str] = "evaluate"
    produces: ClassVar[str] = "report"

    @dataclass
    class Inputs:
        model: str = port("checkpoint")
        "The model."
        tokens: str = port("tokens")
        "Held-out tokens made with the model's tokenizer."

    inputs: Inputs = field(default_factory=Inputs)
    seq_len: int | None = None
    "Tokens of a sequence; at most the model's max_seq_len. None: the model's max_seq_len."
    prompts: list[str] = field(default_factory=list)
    "Texts to continue. Empty: the beginnings of the first held-out rows."
    num_samples: int = 4
    "Beginnings of held-out rows to continue when no prompt is given; >= 0."
    max_new_tokens: int = 64
    "Tokens of each continuation; >= 1."
    temperature: float = 0.0
    "Of the continuations; 0 is greedy."
    top_p: float = 1.0
    "Of the continuations, in (0, 1]."
    seed: int = 0
    "Of the continuations, and of what is masked or left out."
    masking: TokenMasking = field(default_factory=TokenMasking, metadata=ADDED_LATER)
    "Of an encoder: how many tokens are masked, and with what."
    spans: SpanCorruption = field(default_factory=SpanCorruption, metadata=ADDED_LATER)
    "Of an encoder-decoder, in plain text: how much is left out, in spans of which length."

    def problems(self) -> list[Problem]:
        ranges = [
            ("seq_len", self.seq_len is None or self.seq_len >= 1, ">= 1, or null"),
            ("num_samples", self.num_samples >= 0, ">= 0"),
            ("max_new_tokens", self.max_new_tokens >= 1, ">= 1"),
            ("temperature", self.temperature >= 0, ">= 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
        ]
        found = [
            Problem(name, f"{name} is {getattr(self, name)}", allowed, f"set {name} {allowed}")
            for name, holds, allowed in ranges
            if not holds
        ]
        return found + below("masking", self.masking.problems()) + below("spans", self.spans.problems())

    def reported_metrics(self) -> tuple[str, ...]:
        return ("eval/loss", "eval/perplexity", "eval/bits_per_byte", "eval/accuracy", "eval/pearson")

    def run(self, context: StageContext) -> StageResult:
        model, tokens = context.one("model"), context.one("tokens")
        cores = context.resources.cpus_per_worker or 2
        item = (
            model.folder,
            tokens.folder,
            shard_names(tokens),
            self,
            cores,
            context.output,
            context.channel,
        )
        (result,) = context.map(
            evaluate_model,
            {"report": item},
            unit="reports",
            num_cpus=cores,
            num_gpus=context.resources.num_gpus or 0,
        ).values()
        return StageResult(result["counters"], result["metrics"])


def evaluate_model(
    model_folder: Folder,
    token_folder: Folder,
    names: list[str],
    settings: Evaluate,
    cores: int,
    output: Folder,
    channel: Channel,
) -> dict[str, Any]:
    """In the worker: score the held-out tokens, write samples, and leave `report.json` and `samples.md`."""
    import torch

    from data.shards import TokenShards
    from data.tokenizer import Tokenizer
    from model.weights import load_model
    from pipeline.evaluation.samples import as_markdown
    from pipeline.evaluation.scoring import score
    from pipeline.stages.scored import what_is_scored

    torch.set_num_threads(cores)
    folder, local_tokens = model_folder.local(), token_folder.local()
    model = load_model(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = Tokenizer.load(folder / "tokenizer")
    shards = TokenShards([local_tokens / name for name in names], tokenizer_hash=tokenizer.hash)

    def tell(done: int, total: int) -> None:
        channel.send({"kind": "progress", "done": done, "total": total, "unit": "batches", "note": ""})

    longest = model.config.max_seq_len
    seq_len = min(settings.seq_len or longest, longest)
    asked = what_is_scored(model, shards, tokenizer, settings, seq_len=seq_len)
    found = score(
        asked.objective, asked.held_out, seq_len=seq_len, on_progress=tell, corruption=asked.corruption
    )
    written = _samples(model, shards, tokenizer, settings)
    counters = {"targets": found.num_targets, "bytes": found.num_bytes, "rows": shards.num_rows}
    report = {"counters": counters, "metrics": found.metrics()}
    output.write_json(
        "report.json", report | {"samples": written} | ({"note": asked.note} if asked.note else {})
    )
    output.write_bytes("samples.md", as_markdown(written).encode())
    return report


def _samples(
    model: "LanguageModel", shards: "TokenShards", tokenizer: "Tokenizer", settings: Evaluate
) -> list[dict[str, str]]:
    """What a decoder writes; no other model continues a text."""
    from model.config import classes_of
    from model.decoder import Decoder
    from pipeline.evaluation import samples

    if not isinstance(model, Decoder) or classes_of(model.config):
        return []
    cases = samples.from_prompts(settings.prompts, tokenizer) or samples.from_rows(
        shards, tokenizer, count=settings.num_samples, reference_tokens=settings.max_new_tokens
    )
    sampling = samples.Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed)
    return samples.write_samples(model, tokenizer, cases, sampling)
