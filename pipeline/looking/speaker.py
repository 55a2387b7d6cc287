"""A model that a REF or a Hugging Face folder names, ready to continue texts. Torch is imported when it is loaded."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import DataError
from data.tokenizer import Tokenizer
from pipeline.dag.store import Artifact
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from model.decoder import Decoder

CONFIG = "config.json"
OnText = Callable[[str], None]


@dataclass(frozen=True)
class Sampling:
    """How to sample."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass
class Speaker:
    """A model with its tokenizer."""

    model: "Decoder"
    tokenizer: Tokenizer
    name: str
    "What it is called on screen."
    fingerprint: str | None
    "None for a folder from outside of the store."
    has_own_tokenizer: bool
    "Whether texts begin as Headrace's models learn them, with nothing added, or as the folder's tokenizer says."
    folder: Path
    eos_ids: frozenset[int] = field(default_factory=frozenset)

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of a prompt.

        Raises:
            ConfigError: it is empty, or leaves no room in the model's context.
        """
        if self.has_own_tokenizer:
            ids: list[int] = self.tokenizer.encode(prompt).tolist()
        else:
            import tokenizers

            reference = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            reference.no_truncation()
            reference.no_padding()
            ids = list(reference.encode(prompt).ids)
        longest = self.model.config.max_seq_len - 1
        if 0 < len(ids) <= longest:
            return ids
        raise ConfigError(
            f"the prompt has {len(ids):,} tokens, more than this model reads" if ids else "a prompt is empty",
            where="--prompt",
            allowed=f"1 to {longest:,} tokens (the model's max_seq_len is {longest + 1:,})",
            do="shorten it" if ids else "give some text to continue: --prompt TEXT, or --prompt - for stdin",
        )

    def answer(self, prompt_ids: list[int], sampling: Sampling, on_text: OnText) -> list[int]:
        """The new ids, the end of text among them where the model wrote it; `on_text` is told text as it comes."""
        from model.generate import generate

        written: list[int] = []
        stream = _Stream(self.tokenizer, on_text)

        def on_token(_row: int, token_id: int) -> None:
            if not self._has_ended(written):
                written.append(token_id)
                if token_id not in self.eos_ids:
                    stream.feed(token_id)

        generate(
            self.model,
            [prompt_ids],
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            eos_id=next(iter(self.eos_ids)) if len(self.eos_ids) == 1 else None,
            on_token=on_token,
        )
        stream.close()
        return written

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode([id_ for id_ in ids if id_ not in self.eos_ids])

    def _has_ended(self, written: list[int]) -> bool:
        return bool(written) and written[-1] in self.eos_ids


@dataclass
class _Stream:
    """Text out of ids one by one: a character cut into several tokens is held back until it is whole."""

    tokenizer: Tokenizer
    on_text: OnText
    ids: list[int] = field(default_factory=list)
    told: str = ""

    def feed(self, token_id: int) -> None:
        self.ids.append(token_id)
        text = self.tokenizer.decode(self.ids)
        if not text.endswith("\ufffd"):
            self._tell(text)

    def close(self) -> None:
        self._tell(self.tokenizer.decode(self.ids))

    def _tell(self, text: str) -> None:
        if len(text) > len(self.told):
            self.on_text(text[len(self.told) :])
            self.told = text


def speaker_of_artifact(artifact: Artifact) -> Speaker:
    """The model of a checkpoint or an export.

    Raises:
        ConfigError: an artifact of another kind.
    """
    manifest = artifact.manifest
    name = f"{manifest.node} ({manifest.stage}/{manifest.key[:12]})"
    if manifest.kind == "export":
        return _of_hf(artifact.folder.local(), name, manifest.key)
    if manifest.kind == "checkpoint":
        return _of_weights(artifact.folder.local(), name, manifest.key)
    raise ConfigError(
        f'"{manifest.node}" is no model, but {manifest.kind}',
        where="the command line",
        allowed="a node, artifact or run that gives a checkpoint or an export, or a Hugging Face folder",
        do="`headrace graph` shows which nodes train or export",
    )


def speaker_of_folder(folder: Path) -> Speaker:
    """The model of a folder on this machine: a Hugging Face folder, or weights of ours.

    Raises:
        ConfigError: it holds no model or no tokenizer that can be read.
    """
    if (folder / "model.json").exists():
        return _of_weights(folder, str(folder), None)
    if (folder / CONFIG).exists():
        return _of_hf(folder, str(folder), None)
    is_pickle = folder.suffix in (".bin", ".pt", ".pth", ".ckpt")
    raise ConfigError(
        f"{folder} is a pickle, which can run any code when read"
        if is_pickle
        else f"{folder} holds no model",
        where="the command line",
        allowed=f"a folder with {CONFIG}, *.safetensors, tokenizer.json and tokenizer_config.json",
        do="name such a folder; transformers' save_pretrained writes one",
    )


def _of_weights(folder: Path, name: str, key: str | None) -> Speaker:
    from model.decoder import decoder
    from model.weights import load_model

    tokenizer = _tokenizer(folder / "tokenizer")
    model = _loaded(lambda: decoder(load_model(folder)), folder)
    return Speaker(
        _placed(model),
        tokenizer,
        name=name,
        fingerprint=key,
        has_own_tokenizer=True,
        folder=folder,
        eos_ids=frozenset([tokenizer.eos_id]),
    )


def _of_hf(folder: Path, name: str, key: str | None) -> Speaker:
    from model.decoder import decoder
    from model.hf import import_hf
    from model.weights import model_from

    tokenizer = _tokenizer(folder)
    model = _loaded(lambda: decoder(model_from(*import_hf(folder))), folder)
    ends = frozenset(_eos_ids(folder)) or frozenset([tokenizer.eos_id])
    return Speaker(
        _placed(model),
        tokenizer,
        name=name,
        fingerprint=key,
        has_own_tokenizer=key is not None,
        folder=folder,
        eos_ids=ends,
    )


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.load(folder)
    except DataError as error:  # the data is the user's command here
        raise ConfigError(error.what, where=error.where, allowed=error.allowed, do=error.do) from error


def _loaded(load: Callable[[], Any], folder: Path) -> Any:
    from safetensors import SafetensorError

    try:
        return load()
    except (ValueError, KeyError, OSError, SafetensorError) as error:
        raise ConfigError(
            f"the model cannot be read: {error}",
            where=str(folder),
            allowed="GPT-2 or LLaMA weights in safetensors, beside their config",
            do="name another folder, or convert it with transformers: save_pretrained writes safetensors",
        ) from error


def _placed(model: Any) -> Any:
    import torch

    return model.to("cuda") if torch.cuda.is_available() else model


def _eos_ids(folder: Path) -> Iterator[int]:
    """The ids at which transformers would stop: those of generation_config.json, or else of config.json."""
    for name in ("generation_config.json", CONFIG):
        path = folder / name
        found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
        if found is not None:
            yield from [found] if isinstance(found, int) else found
            return
