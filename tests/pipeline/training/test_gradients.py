"""Gradients of half precision come to sums in fp32, over micro-steps and over ranks, without a rounding in between."""

import json

import pytest

from tests.pipeline.training import exchanging
from tests.pipeline.training.ranks import WARM


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_at_zero_2_sum_bf16_gradients_in_fp32(tmp_path, world_size):
    """Parts end in the middle of parameters, and three is no power of two: a mean in bf16 would be rounded."""
    given = (world_size, str(tmp_path / "ranks"), str(tmp_path / "answer"))
    ranks = [WARM.Process(target=exchanging.main, args=(rank, *given)) for rank in range(world_size)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(200)
    assert [each.exitcode for each in ranks] == [0] * world_size
    found, expected = json.loads((tmp_path / "answer").read_text())
    assert found == pytest.approx(expected, rel=2e-6)
