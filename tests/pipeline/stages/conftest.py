"""Weights artifacts of every family, for looking at."""

from collections.abc import Callable

import pytest
import torch

from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerRules, train_tokenizer
from model.registry import build_model
from model.weights import save_weights
from pipeline.dag.folder import Folder, open_folder
from tests.pipeline.stages.families import MODELS, TEXTS


@pytest.fixture(scope="session")
def family_tokenizer() -> Tokenizer:
    rules = TokenizerRules(vocab_size=330, special_tokens=["[MASK]"], num_sentinels=8)
    return train_tokenizer(TEXTS, rules=rules)


@pytest.fixture(scope="session")
def models(tmp_path_factory, family_tokenizer) -> Callable[[str], Folder]:
    """A weights artifact of each family, far from ties between tokens."""
    root = tmp_path_factory.mktemp("models")

    def make(name: str) -> Folder:
        folder = root / name
        if not folder.exists():
            torch.manual_seed(1)
            config = MODELS[name].with_vocab_size(family_tokenizer.vocab_size)
            state = {
                key: value + 0.2 * torch.randn_like(value)
                for key, value in build_model(config).state_dict().items()
            }
            save_weights(folder, config, state)
            family_tokenizer.save(folder / "tokenizer")
        return open_folder(str(folder))

    return make
