from xml.etree import ElementTree as ET


def test_every_edge_is_in_the_mermaid_text(look):
    edges = look("graph", "--json").json["edges"]
    assert ["split", "tokens"] in edges
    assert ["tokenizer", "tokens"] in edges
    text = look("graph").out
    assert text.startswith("flowchart LR\n")
    drawn = [line.split(" --> ") for line in text.splitlines() if "-->" in line]
    assert [[first.strip(), second.strip()] for first, second in drawn] == edges


def test_the_picture_is_svg_that_names_every_node(look, tmp_path):
    path = tmp_path / "dag.svg"
    said = look("graph", "--svg", str(path))
    assert said.out.strip() == str(path)
    words = " ".join(ET.parse(path).getroot().itertext())
    for node in look("graph", "--json").json["nodes"]:
        assert node in words


def test_a_picture_that_cannot_be_written_is_refused(look, tmp_path):
    error = look("graph", "--svg", str(tmp_path / "nowhere" / "dag.svg")).error()
    assert "--svg" in error
