"""The registered model as MLflow runs it: prompts in, texts out, from a Hugging Face folder.

MLflow stores this file beside the weights and executes it when the model is loaded ("models from code"): nothing is
pickled, and Headrace need not be installed where the model is used.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext


class TextGenerator(PythonModel):
    """`predict(prompts)` continues each prompt; greedy unless `temperature` is above zero."""

    def load_context(self, context: PythonModelContext) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = Path(context.artifacts["export"])
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        loaded = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        self.model = loaded.to(self.device).eval()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        """Continue prompts.

        Args:
            context: MLflow's.
            model_input: prompts in the first column; the signature lets MLflow make it from a list of strings.
            params: `max_new_tokens`, `temperature` (0: greedy), `top_p`, `seed`.

        Returns:
            The new text for each prompt, in their order.
        """
        del context
        import torch

        prompts = model_input.iloc[:, 0].tolist()
        options = params or {}
        torch.manual_seed(int(options.get("seed", 0)))
        batch = self.tokenizer(
            prompts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        ).to(self.device)
        with torch.inference_mode():
            ids = self.model.generate(**batch, **_sampling(options), pad_token_id=self.tokenizer.pad_token_id)
        new_ids = ids[:, batch["input_ids"].shape[1] :]
        texts: list[str] = self.tokenizer.batch_decode(new_ids, skip_special_tokens=True)
        return texts


def _sampling(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `generate`; sampling values are left away where it is greedy."""
    temperature = float(options.get("temperature", 0.0))
    length = {"max_new_tokens": int(options.get("max_new_tokens", 64))}
    if temperature <= 0:
        return length | {"do_sample": False}
    top_p = float(options.get("top_p", 1.0))
    return length | {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}


mlflow.models.set_model(TextGenerator())
