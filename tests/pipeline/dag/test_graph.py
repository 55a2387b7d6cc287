import pytest

from pipeline.dag.graph import Graph
from pipeline.errors import ConfigError


def test_order_puts_each_node_after_its_inputs_and_keeps_the_recipes_order(toy):
    toy.stages = dict(reversed(toy.stages.items()))
    assert Graph(toy.stages).order == ["read", "loud", "joined"]


def test_targets_need_only_what_is_above_them(toy):
    graph = Graph(toy.stages)
    assert graph.needed_by(["loud"]) == ["read", "loud"]
    assert graph.needed_by([]) == ["read", "loud", "joined"]


def test_a_cycle_is_named(toy, toy_stages):
    toy.stages["loud"] = toy_stages.Upper(inputs=toy_stages.Upper.Inputs(lines="again"))
    toy.stages["again"] = toy_stages.Upper(inputs=toy_stages.Upper.Inputs(lines="loud"))
    with pytest.raises(ConfigError, match="circle") as caught:
        Graph(toy.stages)
    assert "loud" in caught.value.what
    assert "again" in caught.value.what


@pytest.mark.parametrize(
    ("reference", "what", "do"),
    [
        ("laod", 'no node "laod"', 'did you mean "loud"'),
        ("", "needs this input", "set stages.joined.inputs.lines=NODE"),
        ("joined", "takes lines", "name one of these"),
    ],
)
def test_a_wrong_input_is_refused_in_words(toy, toy_stages, reference, what, do):
    toy.stages["joined"] = toy_stages.Join(inputs=toy_stages.Join.Inputs(lines=[reference]))
    with pytest.raises(ConfigError) as caught:
        Graph(toy.stages)
    assert what in caught.value.what
    assert do in caught.value.do
    assert caught.value.where == "stages.joined.inputs.lines"


def test_an_unknown_target_is_refused_with_the_closest_name(toy):
    with pytest.raises(ConfigError) as caught:
        Graph(toy.stages).needed_by(["joind"])
    assert 'did you mean "joined"' in caught.value.do
