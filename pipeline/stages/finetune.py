"""`finetune`: a trained model learns from examples, with the loss on the responses only."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pipeline.dag.folder import Folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, optional_port, port
from pipeline.dag.store import Manifest
from pipeline.stages import training_node
from pipeline.training.config import TrainingConfig


@dataclass
class Finetune(TrainingConfig, Stage):
    """Continues from a checkpoint or an exported Hugging Face folder on prompt-response examples.

    A sequence is one example; global_batch_tokens counts padded sequences, as everywhere.
    """

    name: ClassVar[str] = "finetune"
    produces: ClassVar[str] = "checkpoint"

    @dataclass
    class Inputs:
        model: str = port("checkpoint", "export")
        "The model to begin from."
        tokens: str = port("tokens")
        "Tokenized examples."
        validation: str = optional_port("tokens")
        "Held-out examples, to evaluate on while training."

    inputs: Inputs = field(default_factory=Inputs)

    def problems(self) -> list[Problem]:
        return TrainingConfig.problems(self)

    def resource_problems(self, resources: Resources) -> list[Problem]:
        return training_node.batch_problems(self, resources)

    def estimate(self, inputs: Mapping[str, list[Manifest]], resources: Resources) -> dict[str, float]:
        del resources
        ahead = training_node.sequences_ahead(
            [self.inputs.tokens], inputs.get("tokens", []), seq_len=self.seq_len, packing=None
        )
        return training_node.length_estimate(self, ahead)

    def reported_metrics(self) -> tuple[str, ...]:
        return training_node.reported_metrics(held_out=bool(self.inputs.validation))

    def run(self, context: StageContext) -> StageResult:
        from data.tokenizer import Tokenizer
        from model.weights import load_config
        from pipeline.training.job import TrainingJob

        for name in ("tokens", "validation"):
            training_node.require_shards(context.inputs[name], node=context.node, port=name)
        validation = context.inputs["validation"]
        weights = self._weights(context)
        tokenizer = Tokenizer.load(weights.child("tokenizer").local())
        job = TrainingJob(
            model=load_config(weights.local()),
            training=training_node.training_config(self),
            train_tokens={"tokens": context.one("tokens").folder},
            tokenizer=weights.child("tokenizer"),
            tokenizer_hash=tokenizer.hash,
            validation_tokens=validation[0].folder if validation else None,
            initial_weights=weights,
            packing=None,
        )
        return training_node.train(context, job, vocab_size=job.model.vocab_size or tokenizer.vocab_size)

    def _weights(self, context: StageContext) -> Folder:
        """The weights to begin from; an export is turned back into ours first."""
        given = context.one("model")
        if given.kind == "checkpoint":
            return given.folder
        context.map(
            import_export, {"import": (given.folder, context.scratch.child("initial"))}, unit="imports"
        )
        return context.scratch.child("initial")


def import_export(exported: Folder, target: Folder) -> dict[str, Any]:
    """In a worker: a Hugging Face folder as a weights folder with its tokenizer."""
    from data.tokenizer import Tokenizer
    from model.hf import import_hf
    from model.weights import save_weights

    config, state_dict = import_hf(exported.local())
    with tempfile.TemporaryDirectory() as temporary:
        save_weights(Path(temporary), config, state_dict)
        Tokenizer.load(exported.local()).save(Path(temporary) / "tokenizer")
        for path in sorted(Path(temporary).iterdir()):
            target.upload(path, path.name)
    return {}
