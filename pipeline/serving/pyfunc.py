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
    """`predict(prompts)` continues each prompt, or writes the target of each source.

    Greedy unless `temperature` is above zero or there are beams.
    """

    def load_context(self, context: PythonModelContext) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        folder = Path(context.artifacts["export"])
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self.is_encoder_decoder = bool(config.is_encoder_decoder)
        side = "right" if self.is_encoder_decoder else "left"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side, local_files_only=True)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        kind = AutoModelForSeq2SeqLM if self.is_encoder_decoder else AutoModelForCausalLM
        loaded = kind.from_pretrained(folder, local_files_only=True)
        self.model = loaded.to(self.device).eval()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        """Continue prompts.

        Args:
            context: MLflow's.
            model_input: prompts in the first column; the signature lets MLflow make it from a list of strings.
            params: `max_new_tokens`, `temperature` (0: greedy), `top_k` (0: all), `top_p`, `min_p`,
                `repetition_penalty`, `num_beams`, `length_penalty`, `stop` (a text; empty: none), `seed`.

        Returns:
            The new text for each prompt, in their order, up to the text to stop at.
        """
        del context
        import torch
        from transformers import StoppingCriteriaList

        end = self.tokenizer.eos_token if self.is_encoder_decoder else ""  # as sources end in training
        prompts = [prompt + end for prompt in model_input.iloc[:, 0]]
        options = params or {}
        stop = str(options.get("stop", ""))
        torch.manual_seed(int(options.get("seed", 0)))
        batch = self.tokenizer(
            prompts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        ).to(self.device)
        begin = 1 if self.is_encoder_decoder else batch["input_ids"].shape[1]

        def has_stop(ids: Any, _scores: Any, **_: Any) -> Any:
            texts = self.tokenizer.batch_decode(ids[:, begin:], skip_special_tokens=True)
            return torch.tensor([stop in text for text in texts], device=ids.device)

        settings = _settings(options)
        with torch.inference_mode():
            if getattr(self.model.config, "prefix_lm", False):
                batch["past_key_values"] = _read_whole(self.model, batch, num_beams=settings["num_beams"])
            ids = self.model.generate(
                **batch,
                **settings,
                pad_token_id=self.tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([has_stop] if stop else []),
            )
        texts: list[str] = self.tokenizer.batch_decode(ids[:, begin:], skip_special_tokens=True)
        return [text.partition(stop)[0] if stop else text for text in texts]


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `generate`; sampling values are left away where it is greedy."""
    temperature = float(options.get("temperature", 0.0))
    settings = {
        "max_new_tokens": int(options.get("max_new_tokens", 64)),
        "repetition_penalty": float(options.get("repetition_penalty", 1.0)),
        "num_beams": int(options.get("num_beams", 1)),
        "length_penalty": float(options.get("length_penalty", 1.0)),
        "do_sample": temperature > 0,
    }
    if temperature <= 0:
        return settings
    return settings | {
        "temperature": temperature,
        "top_k": int(options.get("top_k", 0)),
        "top_p": float(options.get("top_p", 1.0)),
        "min_p": float(options.get("min_p", 0.0)),
    }


def _read_whole(model: Any, batch: Any, *, num_beams: int) -> Any:
    """What a model keeps of prompts [B, T] whose tokens all see each other, but for the last, which `generate` reads.

    The last token sees all of its prompt as it is.
    """
    import torch
    from transformers import DynamicCache

    real = batch["attention_mask"].bool()
    places = torch.arange(real.shape[1], device=real.device)
    seen = real[:, None, None, :] | (places == places[:, None])  # [B, 1, T, T]; padding sees itself
    if window := getattr(model.config, "sliding_window", None):
        seen = seen & (places > places[:, None] - window)
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=real.device)
    cache = DynamicCache()
    model(
        input_ids=batch["input_ids"],
        attention_mask=mask.masked_fill(~seen, torch.finfo(model.dtype).min),
        position_ids=(real.cumsum(dim=1) - 1).clamp(min=0),
        past_key_values=cache,
    )
    cache.crop(-1)
    cache.batch_repeat_interleave(num_beams)
    return cache


mlflow.models.set_model(TextGenerator())
