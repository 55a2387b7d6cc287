"""conf/size: one dial. Every size follows the same rules, which docs/sizes.md says, and trains as it is."""

import math
import re
from functools import cache
from pathlib import Path

import pytest

from model.flops import num_parameters
from pipeline.config import compose_recipe
from pipeline.training.config import OptimizerKind

ROOT = Path(__file__).parent.parent
SIZES = sorted((ROOT / "conf/size").glob("*.yaml"), key=lambda path: int(path.stem[1:]))
HEAD, TOKENS_PER_PARAMETER = 64, 20
FIRST_SHARED = 12
"The depth from which four query heads share keys and values."


@cache
def base_of(size):
    return compose_recipe(["recipe=from_scratch", f"size@stages.base={size}"]).config.stages["base"]


@pytest.mark.parametrize("path", SIZES, ids=lambda path: path.stem)
def test_a_size_is_its_depth_and_the_rules(path):
    base = base_of(path.stem)
    model, depth = base.model, int(path.stem[1:])
    width = HEAD * depth
    assert (model.num_layers, model.num_heads, model.hidden_size) == (depth, depth, width)
    assert model.num_kv_heads == (depth if depth < FIRST_SHARED else depth // 4)
    assert model.intermediate_size == HEAD * math.ceil(8 * width / 3 / HEAD)
    assert base.seq_len == model.max_seq_len
    assert base.optimizer is OptimizerKind.muon
    sized = model.with_vocab_size(1000)
    inner = num_parameters(sized) - 1000 * width
    assert base.num_tokens == pytest.approx(TOKENS_PER_PARAMETER * inner, rel=0.06)
    batch = 0.58 * base.num_tokens**0.571
    assert base.global_batch_tokens == 2 ** round(math.log2(batch))
    assert base.global_batch_tokens % base.seq_len == 0
    assert base.learning_rate == pytest.approx(7e-3 * math.sqrt(128 / width), rel=0.05)


@pytest.mark.parametrize("path", SIZES, ids=lambda path: path.stem)
def test_what_a_size_says_of_itself_is_so(path):
    base = base_of(path.stem)
    said = re.match(
        r"# (\d+) layers of (\d+): ([\d.]+)([MB]) parameters beside the embedding, ([\d.]+)([MB]) tokens",
        path.read_text(),
    )
    assert said
    layers, width, size, unit, tokens, of_tokens = said.groups()
    units = {"M": 1e6, "B": 1e9}
    model = base.model.with_vocab_size(1000)
    assert (int(layers), int(width)) == (model.num_layers, model.hidden_size)
    inner = num_parameters(model) - 1000 * model.hidden_size
    assert float(size) * units[unit] == pytest.approx(inner, rel=0.01)
    assert float(tokens) * units[of_tokens] == base.num_tokens


def test_the_sizes_are_in_the_documentation():
    page = (ROOT / "docs/sizes.md").read_text()
    assert all(f"| `{path.stem}` |" in page for path in SIZES)
