"""The model card of an export: what it is, how it was measured, how to load it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.stages.export import Export

TAGS = {
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSeq2SeqLM": "text2text-generation",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModel": "feature-extraction",
}
"What the hub calls the work of a model, by the class that loads it."
USE = """```python
from transformers import LOADER, AutoTokenizer

model = LOADER.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```
"""
PREFIX_USE = """The tokens of a prompt all see each other in this model (a prefix language model). `transformers` lets a
token see what is before it, unless it is given a mask:

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
ids = tokenizer(PROMPT, return_tensors="pt", add_special_tokens=False)["input_ids"]
mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1])  # added to the scores: every token sees all of them
with torch.no_grad():
    logits = model(ids, attention_mask=mask).logits
```
"""
OWN_USE = """`transformers` has no model of this architecture. The folder is Headrace's own: model.json, fp32 weights in
model.safetensors, and the tokenizer.

```python
from pathlib import Path

from model.weights import load_model
from transformers import AutoTokenizer

model = load_model(Path(FOLDER))
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```
"""


def model_card(
    settings: "Export",
    config: dict[str, Any],
    size: int,
    key: str,
    facts: dict[str, float],
    *,
    loader: str | None,
) -> str:
    """The model card: what it is, how it was measured, how to load it."""
    shape = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    measured = "\n".join(
        f"| {name} | {value:g} |" for name, value in facts.items() if name.startswith("eval/")
    )
    metrics = (
        f"\n## Measured while training\n\n| metric | value |\n|---|---|\n{measured}\n" if measured else ""
    )
    head = f"library_name: transformers\npipeline_tag: {TAGS[loader]}" if loader else "library_name: headrace"
    use = USE.replace("LOADER", loader) if loader else OWN_USE
    if config.get("prefix_lm") and not config["classes"]:
        use = PREFIX_USE
    return f"""---
{head}
---

# {settings.title}

{settings.description or "Trained with Headrace."}

{size:,} parameters. Made from the checkpoint `{key}`.

| field | value |
|---|---|
{shape}
{metrics}
## Use

{use}"""
