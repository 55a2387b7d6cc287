"""An exported model in MLflow's registry, loaded where there is neither Headrace nor a network."""

import json
import os
import subprocess
import sys

import pytest

from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Input, StageContext
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.errors import ConfigError
from pipeline.stages.register import Register
from pipeline.tracking.config import TrackingConfig, tracking_uri
from pipeline.tracking.server import open_client

LOAD = """
import json, sys, socket
def refuse(*_): raise OSError("no network here")
socket.socket.connect = refuse
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_registry_uri(sys.argv[2])
model = mlflow.pyfunc.load_model(sys.argv[3])
prompts = ["a b", "c"]
json.dump({
    "list": list(model.predict(prompts, params={"max_new_tokens": 5})),
    "frame": list(model.predict(pandas.DataFrame({"prompt": prompts}), params={"max_new_tokens": 5})),
    "alone": list(model.predict(prompts[1:], params={"max_new_tokens": 5})),
    "sampled": [list(model.predict(prompts, params={"temperature": 1.0, "seed": 3})) for _ in "12"],
    "narrow": list(model.predict(prompts, params={"temperature": 2.0, "top_k": 1, "max_new_tokens": 5})),
    "stopped": list(model.predict(prompts, params={"stop": sys.argv[4], "max_new_tokens": 5})),
    "beams": list(model.predict(prompts, params={"num_beams": 3, "max_new_tokens": 5})),
    "headrace": "pipeline" in sys.modules,
}, sys.stdout)
"""


SHAPE = {"vocab_size": 27, "bos_token_id": None, "eos_token_id": None}


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**SHAPE, **sizes, max_position_embeddings=64))


def t5():
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "initializer_factor": 4.0}
    return T5ForConditionalGeneration(T5Config(**SHAPE, **sizes, decoder_start_token_id=0, pad_token_id=0))


def saved(model_of, folder):
    """A tiny random model as a Hugging Face folder, and what it says by itself."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<eos>", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    torch.manual_seed(0)
    model = model_of().eval()
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    said = []
    for prompt in ("a b", "c"):
        source = f"{prompt} <eos>" if model.config.is_encoder_decoder else prompt
        batch = wrapped(source, return_tensors="pt", return_token_type_ids=False)
        ids = model.generate(**batch, max_new_tokens=5, do_sample=False, pad_token_id=0)
        first = 1 if model.config.is_encoder_decoder else batch["input_ids"].shape[1]
        said.append(wrapped.decode(ids[0, first:], skip_special_tokens=True))
    return folder, said


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return saved(llama, tmp_path_factory.mktemp("export"))


class Silence:
    def send(self, event):
        pass


def in_this_process(function, items, **_):
    return {name: function(*item) for name, item in items.items()}


def register(export, folder, uri: str, *, digest: str, registry_uri: str = "") -> dict[str, str]:
    manifest = Manifest("export", "k", "export", "export", {}, {}, [ManifestFile("config.json", 1, digest)])
    model = Input("export", "", "export", open_folder(str(export)), manifest)
    context = StageContext(
        node="registration",
        key="key1",
        inputs={"model": [model]},
        output=open_folder(str(folder / "output")),
        scratch=open_folder(str(folder / "scratch")),
        resources=Resources(),
        channel=Silence(),
        map=in_this_process,
        tracking_uri=uri,
        registry_uri=registry_uri,
        lineage={"base": "key0"},
    )
    Register(model_name="tiny", description="**tiny**").run(context)
    return context.output.read_json("registration.json")


def said_elsewhere(tmp_path, *argv):
    """What a fresh process makes of the model, in a folder without Headrace."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, *argv],
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_name_that_mlflow_cannot_keep_is_refused():
    assert [problem.field for problem in Register(model_name="a/b").problems()] == ["model_name"]
    assert Register(model_name="tiny llama 1.0").problems() == []


@pytest.mark.slow
def test_a_registered_model_speaks_in_a_fresh_process_and_is_registered_once(tmp_path, export):
    folder, said = export
    uri = tracking_uri(TrackingConfig(), store_path=tmp_path)
    first = register(folder, tmp_path, uri, digest="d1")
    again = register(folder, tmp_path, uri, digest="d1")
    other = register(folder, tmp_path, uri, digest="d2")
    assert first == again
    assert [first["uri"], other["uri"]] == ["models:/tiny/1", "models:/tiny/2"]
    version = open_client(uri).get_model_version("tiny", "1")
    assert version.tags["headrace.fingerprint"] == "key1"
    assert version.tags["headrace.from.base"] == "key0"
    assert version.description == "**tiny**"

    stop = said[0].split()[2]
    result = said_elsewhere(tmp_path, uri, uri, first["uri"], stop)
    assert result["list"] == result["frame"] == said
    assert result["alone"] == said[1:]
    assert result["sampled"][0] == result["sampled"][1]
    assert result["narrow"] == said
    assert result["stopped"] == [text.partition(stop)[0] for text in said]
    assert len(result["beams"]) == 2
    assert result["headrace"] is False


@pytest.mark.slow
def test_a_registry_of_its_own_has_the_version_and_the_tracking_server_has_none(tmp_path, export):
    folder, said = export
    uri = tracking_uri(TrackingConfig(), store_path=tmp_path)
    registry_uri = f"sqlite:///{tmp_path}/registry.db"
    registered = register(folder, tmp_path, uri, digest="d1", registry_uri=registry_uri)
    assert registered == register(folder, tmp_path, uri, digest="d1", registry_uri=registry_uri)
    client = open_client(uri, registry_uri=registry_uri)
    assert client.get_model_version("tiny", registered["version"]).tags["headrace.fingerprint"] == "key1"
    assert open_client(uri).search_model_versions("name = 'tiny'") == []
    assert said_elsewhere(tmp_path, uri, registry_uri, registered["uri"], "a")["list"] == said


@pytest.mark.slow
def test_an_encoder_decoder_is_registered_and_answers_sources(tmp_path):
    folder, said = saved(t5, tmp_path / "export")
    assert len({*said, ""}) == 3
    uri = tracking_uri(TrackingConfig(), store_path=tmp_path)
    registered = register(folder, tmp_path, uri, digest="d1")
    stop = said[0].split()[-1]
    result = said_elsewhere(tmp_path, uri, uri, registered["uri"], stop)
    assert result["list"] == result["frame"] == said
    assert result["alone"] == said[1:]
    assert result["stopped"] == [text.partition(stop)[0] for text in said]


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertModel", None])
def test_what_writes_no_text_is_refused(tmp_path, architecture):
    if architecture:
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    with pytest.raises(ConfigError, match="writes no text") as refused:
        register(tmp_path, tmp_path / "elsewhere", "", digest="d1")
    assert refused.value.where == "stages.registration.inputs.model"
