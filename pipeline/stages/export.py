"""`export`: a trained model as a Hugging Face folder that `AutoModelForCausalLM` loads with equal logits."""

import tempfile
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from pipeline.dag.folder import Folder
from pipeline.dag.stage import Stage, StageContext, StageResult, port
from pipeline.errors import StageFailedError

LARGEST_DIFFERENCE = {"fp32": 1e-5, "bf16": 0.25}
"Between our logits and those of the exported folder; beyond it the export is refused."


class Precision(Enum):
    """How the weights are written."""

    fp32 = "fp32"
    bf16 = "bf16"


@dataclass
class Export(Stage):
    """Writes config, weights (safetensors), tokenizer and model card, then loads them and compares the logits."""

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
    from model.hf import export_hf
    from model.weights import load_weights

    folder = model_folder.local()
    config, state_dict = load_weights(folder)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    dtype = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}[settings.precision]
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary)
        export_hf(state_dict, config, target, dtype=dtype, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id)
        tokenizer.save(target)
        size = num_parameters(config)
        (target / "README.md").write_text(
            _card(settings, config.to_dict(), size, key, facts), encoding="utf-8"
        )
        difference = _largest_difference(folder, target)
        if difference > LARGEST_DIFFERENCE[settings.precision.name]:
            raise StageFailedError(
                f"the exported model's logits differ by {difference:g} from the trained one's",
                where=str(model_folder.url),
                allowed=f"at most {LARGEST_DIFFERENCE[settings.precision.name]:g}",
                do="this is a fault of the conversion: please report it with the model's config",
            )
        for path in sorted(target.iterdir()):
            output.upload(path, path.name)
    return {"counters": {"parameters": size}, "metrics": {"max_abs_logit_difference": difference}}


def _largest_difference(trained: Path, exported: Path) -> float:
    """Between the logits of our model and of `transformers` on fixed token ids."""
    import torch
    from transformers import AutoModelForCausalLM

    from model.weights import load_model

    ours = load_model(trained)
    theirs = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32, local_files_only=True).eval()
    length = min(64, ours.config.max_seq_len)
    ids = torch.arange(2 * length).reshape(2, length) * 7 % int(ours.config.vocab_size or 1)
    with torch.inference_mode():
        return float((ours(ids) - theirs(ids).logits).abs().max())


def _card(settings: Export, config: dict[str, Any], size: int, key: str, facts: dict[str, float]) -> str:
    """The model card: what it is, how it was measured, how to load it."""
    shape = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    measured = "\n".join(
        f"| {name} | {value:g} |" for name, value in facts.items() if name.startswith("eval/")
    )
    metrics = (
        f"\n## Measured while training\n\n| metric | value |\n|---|---|\n{measured}\n" if measured else ""
    )
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---

# {settings.title}

{settings.description or "Trained with Headrace."}

{size:,} parameters. Made from the checkpoint `{key}`.

| field | value |
|---|---|
{shape}
{metrics}
## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```
"""
