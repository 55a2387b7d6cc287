"""A model that a REF or a Hugging Face folder names, ready to write texts. Torch is imported when it is loaded."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import DataError
from data.tokenizer import Tokenizer
from model.generation.settings import Generation
from pipeline.dag.store import Artifact
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from model.base import LanguageModel
    from model.decoder import Decoder
    from model.encoder_decoder import EncoderDecoder

CONFIG = "config.json"
OnText = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """What a model wrote."""

    token_ids: list[int]
    "All of them, the end among them where the model wrote one."
    text: str
    "Up to the end."
    finish_reason: str
    '"stop": at an end of text or a text to stop at; "length": there was no room for more.'


@dataclass
class Speaker:
    """A model with its tokenizer."""

    model: "Decoder | EncoderDecoder"
    tokenizer: Tokenizer
    name: str
    "What it is called on screen."
    fingerprint: str | None
    "None for a folder from outside of the store."
    has_own_tokenizer: bool
    "Whether texts begin as Headrace's models learn them, with nothing added, or as the folder's tokenizer says."
    folder: Path
    eos_ids: frozenset[int] = field(default_factory=frozenset)
    start_id: int | None = None
    "What the target of an encoder-decoder begins with; its source is the prompt."

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of a prompt; those of an encoder-decoder's source end with the end of text, as in training.

        Raises:
            ConfigError: it is empty, or leaves no room in the model's context.
        """
        from model.generation.reading import longest_prompt

        if self.has_own_tokenizer:
            ids: list[int] = self.tokenizer.encode(prompt).tolist()
            if ids and self.start_id is not None:
                ids.append(self.tokenizer.eos_id)
        else:
            import tokenizers

            reference = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            reference.no_truncation()
            reference.no_padding()
            ids = list(reference.encode(prompt).ids)
        longest = longest_prompt(self.model)
        if 0 < len(ids) <= longest:
            return ids
        raise ConfigError(
            f"the prompt has {len(ids):,} tokens, more than this model reads" if ids else "a prompt is empty",
            where="--prompt",
            allowed=f"1 to {longest:,} tokens (the model's max_seq_len is {self.model.config.max_seq_len:,})",
            do="shorten it" if ids else "give some text to continue: --prompt TEXT, or --prompt - for stdin",
        )

    def answer(self, prompt_ids: list[int], settings: Generation, on_text: OnText) -> Answer:
        """What the model writes; `on_text` is told text as it comes."""
        from model.generation.generate import generate

        stream = _Stream(self.tokenizer, settings.stop, on_text)

        def on_token(_row: int, token_id: int) -> None:
            if token_id not in self.eos_ids:
                stream.feed(token_id)

        (ids,) = generate(
            self.model,
            [prompt_ids],
            settings,
            eos_ids=self.eos_ids,
            start_id=self.start_id,
            decode=self.tokenizer.decode,
            on_token=on_token,
        )
        stream.close()
        has_stopped = stream.has_stopped or ids[-1] in self.eos_ids
        return Answer(ids, stream.told, "stop" if has_stopped else "length")


@dataclass
class _Stream:
    """Text out of ids one by one.

    A character cut into several tokens is held back until it is whole, and so is what may begin a text to stop at,
    which is never told.
    """

    tokenizer: Tokenizer
    stop: tuple[str, ...]
    on_text: OnText
    ids: list[int] = field(default_factory=list)
    told: str = ""
    has_stopped: bool = False

    def feed(self, token_id: int) -> None:
        from model.generation.stopping import find_stop, num_held_back

        self.ids.append(token_id)
        text = self.tokenizer.decode(self.ids)
        end = find_stop(text, self.stop)
        if end is not None:
            self.has_stopped = True
            self._tell(text[:end])
        elif not text.endswith("\ufffd"):
            self._tell(text[: len(text) - num_held_back(text, self.stop)])

    def close(self) -> None:
        if not self.has_stopped:
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
    from model.weights import load_model

    tokenizer = _tokenizer(folder / "tokenizer")
    model = _writer(lambda: load_model(folder), folder)
    return Speaker(
        model,
        tokenizer,
        name=name,
        fingerprint=key,
        has_own_tokenizer=True,
        folder=folder,
        eos_ids=frozenset([tokenizer.eos_id]),
        start_id=_start_id(model, tokenizer.pad_id),
    )


def _of_hf(folder: Path, name: str, key: str | None) -> Speaker:
    from model.hf import import_hf
    from model.weights import model_from

    tokenizer = _tokenizer(folder)
    model = _writer(lambda: model_from(*import_hf(folder)), folder)
    starts = _named_ids(folder, "decoder_start_token_id") or [tokenizer.pad_id]
    return Speaker(
        model,
        tokenizer,
        name=name,
        fingerprint=key,
        has_own_tokenizer=key is not None,
        folder=folder,
        eos_ids=frozenset(_named_ids(folder, "eos_token_id") or [tokenizer.eos_id]),
        start_id=_start_id(model, starts[0]),
    )


def _writer(load: "Callable[[], LanguageModel]", folder: Path) -> "Decoder | EncoderDecoder":
    """What `load` gives, where it will compute, as a model that writes.

    Raises:
        ConfigError: it cannot be read, or writes no text.
    """
    import torch

    from model.generation.reading import writer

    model = _loaded(load, folder)
    try:
        found = writer(model)
    except ValueError as error:
        raise ConfigError(
            f"a {model.config.architecture} model writes no text",
            where=str(folder),
            allowed="a decoder (gpt2, llama, rnn) or an encoder-decoder (t5, transformer, rnn_seq2seq)",
            do="name another model; `headrace graph` shows which nodes train",
        ) from error
    return found.to("cuda") if torch.cuda.is_available() else found


def _start_id(model: "Decoder | EncoderDecoder", start_id: int) -> int | None:
    from model.encoder_decoder import EncoderDecoder

    return start_id if isinstance(model, EncoderDecoder) else None


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.load(folder)
    except DataError as error:  # the data is the user's command here
        raise ConfigError(error.what, where=error.where, allowed=error.allowed, do=error.do) from error


def _loaded(load: "Callable[[], LanguageModel]", folder: Path) -> "LanguageModel":
    from safetensors import SafetensorError

    try:
        return load()
    except (ValueError, KeyError, OSError, SafetensorError) as error:
        raise ConfigError(
            f"the model cannot be read: {error}",
            where=str(folder),
            allowed="GPT-2, LLaMA (Mistral, Qwen 2 and 3) or T5 weights in safetensors, beside their config",
            do="name another folder, or convert it with transformers: save_pretrained writes safetensors",
        ) from error


def _named_ids(folder: Path, field_name: str) -> list[int]:
    """The ids that transformers would take: those of generation_config.json, or else of config.json."""
    for name in ("generation_config.json", CONFIG):
        path = folder / name
        found = json.loads(path.read_text(encoding="utf-8")).get(field_name) if path.exists() else None
        if found is not None:
            return [found] if isinstance(found, int) else list(found)
    return []
