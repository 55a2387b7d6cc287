"""`pretrain`: a model learns from text, by the objective of its kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from data.mixture import MixtureRules
from model.config import ModelConfig, reads_prompts_whole
from pipeline.dag.folder import Folder
from pipeline.dag.foresight import Foresight, Source
from pipeline.dag.resources import Resources
from pipeline.dag.stage import (
    Problem,
    Stage,
    StageContext,
    StageResult,
    below,
    one_or_many_ports,
    optional_port,
    port,
)
from pipeline.dag.store import Manifest
from pipeline.stages import embedding, training_node
from pipeline.training import distillation
from pipeline.training.config import Packing, TrainingConfig
from pipeline.training.objective import OF_EXAMPLES, Objective
from pipeline.training.pace import Paces
from pipeline.training.sources import can_be_followed, source_names


@dataclass
class Pretrain(TrainingConfig, Stage):
    """Trains a model to predict tokens of a text: the next, the masked, those left out, or a response.

    seq2seq_lm reads tokenized examples, one pair to a sequence; all others plain text.
    """

    name: ClassVar[str] = "pretrain"
    produces: ClassVar[str] = "checkpoint"

    @dataclass
    class Inputs:
        tokens: Any = one_or_many_ports("tokens")
        "What to learn from: a node, or a list of nodes, which `mixture` shares out."
        tokenizer: str = port("tokenizer")
        "What made the tokens; it goes along with the model."
        validation: str = optional_port("tokens")
        "Held-out tokens, to evaluate on while training."
        initial: str = optional_port("checkpoint")
        "A model of the same shape to begin from. Empty: weights drawn from the seed."
        embedding_init: str = optional_port("vectors")
        "Word vectors that the token embedding begins from, token by token; the others are drawn from the seed."
        teacher: str = optional_port("checkpoint")
        "A trained model of the same vocabulary and objective, to learn from besides; `distillation` says how much."

    inputs: Inputs = field(default_factory=Inputs)
    model: ModelConfig = field(default_factory=ModelConfig)
    "Architecture and shape: one of conf/model."
    mixture: MixtureRules = field(default_factory=MixtureRules)
    "How much of each source the run sees, where there are several."

    packing: Packing = Packing.concatenate
    "concatenate: full sequences, documents run on; best_fit: whole documents, as many as fit; pad: one to a sequence."

    def problems(self) -> list[Problem]:
        found = TrainingConfig.problems(self) + below("model", self.model.problems())
        found += self._mixture_problems() + distillation.own_problems(self, self.inputs.teacher)
        if self.inputs.initial and self.inputs.embedding_init:
            what, allowed = "the embedding cannot begin both from a model and from vectors", "one of the two"
            found.append(
                Problem("inputs.embedding_init", what, allowed, "leave inputs.initial or this empty")
            )
        if reads_prompts_whole(self.model) and self.objective_of(self.model) is not Objective.prefix_lm:
            what = "a model that reads prompts whole learns that by prefix_lm, and another objective is set"
            do = "leave model.prefix_lm out: training sets it, or set objective=prefix_lm"
            found.append(Problem("model.prefix_lm", what, "true with the objective prefix_lm alone", do))
        found = found or training_node.fitting_problems(self.model, self)
        return found or training_node.packing_problems(self.model, self, self.packing)

    @property
    def used_packing(self) -> Packing | None:
        """How rows become sequences; None: each is an example."""
        return None if self.objective_of(self.model) in OF_EXAMPLES else self.packing

    @property
    def sources(self) -> list[str]:
        """What the sources of tokens are called."""
        return source_names([str(reference) for reference in self.ports()["tokens"][1]])

    def _mixture_problems(self) -> list[Problem]:
        references = self.ports()["tokens"][1]
        if len(set(references)) < len(references):
            allowed = "each source once"
            return [
                Problem("inputs.tokens", f"{references} names one twice", allowed, "give it a weight instead")
            ]
        return below("mixture", self.mixture.problems() or self.mixture.name_problems(self.sources))

    def input_problems(self, sources: Mapping[str, list[Stage]]) -> list[Problem]:
        found = embedding.width_problems(sources, self.model.hidden_size)
        for stage in sources.get("teacher", []):
            if isinstance(stage, Pretrain):
                found += distillation.teacher_problems(self.model, stage.model, self)
        return found

    def resource_problems(self, resources: Resources) -> list[Problem]:
        return training_node.resource_problems(self, resources)

    def estimate(self, inputs: Mapping[str, list[Manifest]], resources: Resources) -> dict[str, float]:
        del resources
        return training_node.estimate(
            self.model,
            training_node.training_config(self),
            vocab_size=training_node.vocabulary(inputs),
            num_sequences=training_node.sequences_ahead(
                self.ports()["tokens"][1],
                inputs.get("tokens", []),
                seq_len=self.seq_len,
                packing=self.used_packing,
            ),
        )

    def foresee(
        self,
        inputs: Mapping[str, list[Manifest]],
        resources: Resources,
        *,
        measured: Folder,
        sources: Mapping[str, list[Source]],
    ) -> Foresight:
        return training_node.foresee(
            self.model,
            training_node.training_config(self),
            resources,
            estimated=self.estimate(inputs, resources),
            vocab_size=training_node.vocabulary(inputs),
            paces=Paces(measured),
            teacher=sources.get("teacher", []),
        )

    def follows(self) -> frozenset[str]:
        can = can_be_followed(self, self.used_packing, self.mixture, num_sources=len(self.sources))
        return frozenset({"tokens", "validation"}) if can else frozenset()

    def reported_metrics(self) -> tuple[str, ...]:
        objective = self.objective_of(self.model)
        return training_node.reported_metrics(objective, held_out=bool(self.inputs.validation))

    def run(self, context: StageContext) -> StageResult:
        from data.tokenizer import Tokenizer
        from pipeline.training.corruption import corruption_of
        from pipeline.training.job import TrainingJob

        for name in ("tokens", "validation"):
            training_node.require_shards(context.inputs[name], node=context.node, port=name)
        tokenizer = Tokenizer.load(context.one("tokenizer").folder.local())
        training_node.checked_vocabulary(self.model, tokenizer.vocab_size, node=context.node)
        # refused here, before a rank is started
        corruption_of(self, self.model, tokenizer, packing=self.used_packing)
        validation, initial, teacher = (context.inputs[name] for name in ("validation", "initial", "teacher"))
        rows, matched = embedding.prepare(context, self.model.hidden_size)
        job = TrainingJob(
            model=self.model,
            training=training_node.training_config(self),
            train_tokens={
                name: each.following or each.folder
                for name, each in zip(self.sources, context.inputs["tokens"], strict=True)
            },
            tokenizer=context.one("tokenizer").folder,
            tokenizer_hash=tokenizer.hash,
            validation_tokens=validation[0].following or validation[0].folder if validation else None,
            initial_weights=initial[0].folder if initial else None,
            teacher=teacher[0].folder if teacher else None,
            embedding=rows,
            mixture=self.mixture,
            packing=self.used_packing,
        )
        trained = training_node.train(context, job, vocab_size=tokenizer.vocab_size)
        return StageResult(trained.counters | matched.counters, trained.metrics | matched.metrics)
