"""`finetune`: a trained model learns from examples, or goes on with what its kind learns from text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from model.config import ADDED_LATER, ModelConfig
from pipeline.dag.folder import Folder, open_folder
from pipeline.dag.foresight import Foresight, Source
from pipeline.dag.resources import Resources
from pipeline.dag.stage import (
    ExternalFile,
    Input,
    Problem,
    Stage,
    StageContext,
    StageResult,
    below,
    circumstance,
    optional_port,
    port,
    refuse_first,
)
from pipeline.dag.store import Manifest
from pipeline.stages import training_node
from pipeline.stages.init_from import (
    Changes,
    config_ahead,
    files_of,
    import_weights,
    init_problems,
    local_folder,
)
from pipeline.training.config import Packing, TrainingConfig
from pipeline.training.distillation import own_problems
from pipeline.training.objective import Objective, objective_of_classes
from pipeline.training.pace import Paces

if TYPE_CHECKING:
    from data.tokenizer import Tokenizer

PACKINGS = {
    Objective.masked_lm: Packing.pad,
    Objective.prefix_lm: Packing.pad,
    Objective.span_corruption: Packing.concatenate,
}
"How documents become sequences, by the objective; of others a sequence is an example, of prefix_lm if there are any."


@dataclass
class Finetune(TrainingConfig, Stage):
    """Continues from a checkpoint, an export, a Hugging Face folder or a model on the hub.

    A sequence is one example, with the loss on its response only, for masked_lm one document, and for prefix_lm one
    example whose prompt is the prefix, or one document; span_corruption takes full sequences. global_batch_tokens
    counts padded sequences, as everywhere.
    """

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 2
    produces: ClassVar[str] = "checkpoint"

    @dataclass
    class Inputs:
        model: str = optional_port("checkpoint", "export")
        "The model to begin from; empty: init_from names it."
        tokens: str = port("tokens")
        "Tokenized examples, or text for an objective that reads whole sequences."
        validation: str = optional_port("tokens")
        "Held-out examples, to evaluate on while training."
        tokenizer: str = optional_port("tokenizer")
        "What made the tokens, where it is not the model's own: one that was imported, or that has more ids."
        teacher: str = optional_port("checkpoint")
        "A model that was trained for the same, to learn from besides; `distillation` says how much."

    inputs: Inputs = field(default_factory=Inputs)

    classes: list[str] = field(default_factory=list, metadata=ADDED_LATER)
    """Of classification: the names of the classes, as responses have them; the head that tells them apart is new. One
    name: responses are numbers, and the head is one of regression."""
    shrink_vocabulary: bool = field(default=False, metadata=ADDED_LATER)
    "Whether ids beyond the tokenizer's last are cut off: a smaller embedding and head. They never had a token."
    init_from: str = circumstance("")
    "A Hugging Face folder that all machines see, or a name on the hub; its bytes are identity, not where they lie."

    def problems(self) -> list[Problem]:
        found = TrainingConfig.problems(self)
        if bool(self.inputs.model) == bool(self.init_from):
            both = (
                "inputs.model and init_from are both set"
                if self.init_from
                else "no model to begin from is named"
            )
            allowed = "one of inputs.model and init_from"
            found.append(
                Problem("init_from", both, allowed, "set inputs.model to a node, or init_from to a folder")
            )
        if len(set(self.classes)) < len(self.classes):
            what, allowed = (
                f"{self.classes} names a class twice",
                "each class once, or the name of one number",
            )
            found.append(Problem("classes", what, allowed, "name all that responses may be"))
        found += own_problems(self, self.inputs.teacher)
        return found + (init_problems(self.init_from) if self.init_from else [])

    def external_files(self) -> list[ExternalFile]:
        return files_of(self.init_from) if self.init_from else []

    def resource_problems(self, resources: Resources) -> list[Problem]:
        return training_node.resource_problems(self, resources)

    def estimate(self, inputs: Mapping[str, list[Manifest]], resources: Resources) -> dict[str, float]:
        del resources
        ahead = training_node.sequences_ahead(
            [self.inputs.tokens], inputs.get("tokens", []), seq_len=self.seq_len, packing=None
        )
        return training_node.length_estimate(self, ahead)

    def foresee(
        self,
        inputs: Mapping[str, list[Manifest]],
        resources: Resources,
        *,
        measured: Folder,
        sources: Mapping[str, list[Source]],
    ) -> Foresight:
        length = self.estimate(inputs, resources)
        model = self._model_ahead(sources)
        if model is None or model.vocab_size is None or training_node.fitting_problems(model, self):
            return Foresight(length)
        return training_node.foresee(
            model,
            training_node.training_config(self),
            resources,
            estimated=length | training_node.work_of(model, self, length),
            vocab_size=model.vocab_size,
            paces=Paces(measured),
            teacher=sources.get("teacher", []),
        )

    def _model_ahead(self, sources: Mapping[str, list[Source]]) -> ModelConfig | None:
        """The model that it begins from, as far as that can be told without making or fetching it."""
        if self.init_from:
            return config_ahead(self.init_from)
        (source,) = sources["model"]
        return training_node.model_of(source)

    def reported_metrics(self) -> tuple[str, ...]:
        of_classes = objective_of_classes(self.classes) if self.classes else Objective.causal_lm
        objective = self.objective or of_classes
        return training_node.reported_metrics(objective, held_out=bool(self.inputs.validation))

    def run(self, context: StageContext) -> StageResult:
        from data.tokenizer import Tokenizer
        from model.weights import load_config
        from pipeline.training.job import TrainingJob

        for name in ("tokens", "validation"):
            training_node.require_shards(context.inputs[name], node=context.node, port=name)
        validation, teacher = context.inputs["validation"], context.inputs["teacher"]
        weights = self._weights(context)
        tokenizer = Tokenizer.load(weights.child("tokenizer").local())
        model = load_config(weights.local())
        packing = self._packing(model, context.one("tokens"))
        self._check(model, tokenizer, packing, node=context.node)
        job = TrainingJob(
            model=model,
            training=training_node.training_config(self),
            train_tokens={"tokens": context.one("tokens").folder},
            tokenizer=weights.child("tokenizer"),
            tokenizer_hash=tokenizer.hash,
            validation_tokens=validation[0].folder if validation else None,
            initial_weights=weights,
            teacher=teacher[0].folder if teacher else None,
            packing=packing,
        )
        return training_node.train(context, job, vocab_size=job.model.vocab_size or tokenizer.vocab_size)

    def _packing(self, model: ModelConfig, tokens: Input) -> Packing | None:
        objective = self.objective_of(model)
        reads_prompts = objective is Objective.prefix_lm and training_node.are_examples(tokens)
        return None if reads_prompts else PACKINGS.get(objective)

    def _check(
        self, model: ModelConfig, tokenizer: "Tokenizer", packing: Packing | None, *, node: str
    ) -> None:
        """Raises ConfigError before a rank is started: model, objective, tokenizer and text do not go together."""
        from pipeline.training.corruption import corruption_of

        found = training_node.fitting_problems(model, self)
        if packing is not None:
            found = found or training_node.packing_problems(model, self, packing)
        refuse_first(below(f"stages.{node}", found))
        corruption_of(self, model, tokenizer, packing=packing)

    def _weights(self, context: StageContext) -> Folder:
        """The weights to begin from; those of others are turned into ours first."""
        given, tokenizers = context.inputs["model"], context.inputs["tokenizer"]
        stays = not (tokenizers or self.classes or self.shrink_vocabulary)
        if stays and given and given[0].kind == "checkpoint":
            return given[0].folder
        source = given[0].folder if given else open_folder(str(local_folder(self.init_from)))
        initial = context.scratch.child("initial")
        tokenizer = tokenizers[0].folder if tokenizers else None
        changes = Changes(tokenizer, self.classes, self.seed, self.shrink_vocabulary)
        context.map(import_weights, {"import": (source, initial, changes)}, unit="imports")
        return initial
