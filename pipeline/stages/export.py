"""`export`: a trained model as a Hugging Face folder that its family's `AutoModel*` loads with equal logits."""

import tempfile
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from model.config import classes_of
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Stage, StageContext, StageResult, port
from pipeline.errors import ConfigError, StageFailedError
from pipeline.stages.model_card import model_card

if TYPE_CHECKING:
    from model.base import LanguageModel

LARGEST_DIFFERENCE = {"fp32": 1e-5, "bf16": 0.25}
"Between our logits and those of the exported folder; beyond it the export is refused."


class Precision(Enum):
    """How the weights are written."""

    fp32 = "fp32"
    bf16 = "bf16"


@dataclass
class Export(Stage):
    """Writes config, weights (safetensors), tokenizer and model card, then loads them and compares the logits.

    Recurrent networks, and the encoder-decoder of 2017, have no counterpart in transformers: they are written as
    model.json and fp32 weights, which the stages here begin from.
    """

    name: ClassVar[str] = "export"
    produces: ClassVar[str] = "export"

    @dataclass
    class Inputs:
        model: str = port("checkpoint")
        "The model to export."

    inputs: Inputs = field(default_factory=Inputs)
    precision: Precision = Precision.fp32
    "fp32: as trained; bf16: half the size."
    title: str = "A language model"
    "Heading of the model card."
    description: str = ""
    "What the model card says of the model."

    def run(self, context: StageContext) -> StageResult:
        model = context.one("model")
        facts = {name: round(value, 6) for name, value in sorted(model.manifest.metrics.items())}
        item = (model.folder, self, model.manifest.key, facts, context.output)
        (result,) = context.map(export_model, {"export": item}, unit="exports").values()
        return StageResult(result["counters"], result["metrics"])


def export_model(
    model_folder: Folder, settings: Export, key: str, facts: dict[str, float], output: Folder
) -> dict[str, Any]:
    """In the worker: write the folder, check it against the model it came from, and put it into the artifact."""
    import torch

    from data.tokenizer import Tokenizer
    from model.flops import num_parameters
    from model.hf import auto_class, export_hf
    from model.weights import load_weights, save_weights

    folder = model_folder.local()
    config, state_dict = load_weights(folder)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    dtype = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}[settings.precision]
    loader = auto_class(config)
    if loader is None and settings.precision is not Precision.fp32:
        raise _only_fp32(config.architecture)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary)
        if loader is None:
            save_weights(target, config, state_dict)
        else:
            ids = {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
            export_hf(state_dict, config, target, dtype=dtype, **ids)
        tokenizer.save(target)
        size = num_parameters(config)
        (target / "README.md").write_text(
            model_card(settings, config.to_dict(), size, key, facts, loader=loader), encoding="utf-8"
        )
        difference = _largest_difference(folder, target, loader, tokenizer.pad_id)
        if difference > LARGEST_DIFFERENCE[settings.precision.name]:
            raise StageFailedError(
                f"the exported model's logits differ by {difference:g} from the trained one's",
                where=str(model_folder.url),
                allowed=f"at most {LARGEST_DIFFERENCE[settings.precision.name]:g}",
                do="this is a fault of the conversion: please report it with the model's config",
            )
        output.upload_all(target)
    return {"counters": {"parameters": size}, "metrics": {"max_abs_logit_difference": difference}}


def _only_fp32(architecture: str) -> ConfigError:
    return ConfigError(
        f"{architecture} models have no counterpart in transformers, and our own folders hold fp32 weights",
        where="precision",
        allowed="fp32",
        do="set precision=fp32",
    )


def _largest_difference(trained: Path, exported: Path, loader: str | None, pad_id: int) -> float:
    """Between what our model and the loaded export give on fixed token ids, of which none is padding."""
    import torch
    import transformers

    from model.encoder_decoder import EncoderDecoder
    from model.weights import load_model

    ours = load_model(trained)
    length = min(64, ours.config.max_seq_len)
    ids = torch.arange(2 * length).reshape(2, length) * 7 % int(ours.config.vocab_size or 1)
    ids[ids == pad_id] = (pad_id + 1) % int(
        ours.config.vocab_size or 1
    )  # RoBERTa counts positions without it
    given = {"input_ids": ids}
    if isinstance(ours, EncoderDecoder):
        given["decoder_input_ids"] = ids[:, : length // 2 + 1]
    with torch.inference_mode():
        mine = outputs(ours, given)
        if loader is None:
            return float((mine - outputs(load_model(exported), given)).abs().max())
        kind = getattr(transformers, loader)
        theirs = kind.from_pretrained(exported, dtype=torch.float32, local_files_only=True).eval()
        return float((mine - theirs(**given)[0]).abs().max())


def outputs(model: "LanguageModel", given: dict[str, Any]) -> Any:
    """Logits, of tokens or of classes, or the hidden states of a model without a head."""
    if classes_of(model.config):
        hidden = model.hidden(**given)  # type: ignore[operator]
        return model.classifier(hidden, None)
    compute: Any = model if model.config.has_lm_head else model.hidden
    return compute(**given)
