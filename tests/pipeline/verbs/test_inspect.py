import numpy as np
import pytest
from safetensors import numpy as safetensors

from data.documents import read_documents
from data.tokenizer import Tokenizer
from pipeline.dag.folder import Folder
from pipeline.dag.store import Store


def test_documents_come_with_their_text_and_place(look, tiny):
    rows = look("inspect", "clean", "--limit", "100", "--json").rows
    store = Store(tiny.url)
    (folder,) = [each.folder for each in store.artifacts() if each.manifest.stage == "clean"]
    with folder.opening("documents-00000.arrow") as source:
        documents = list(read_documents(source))
    assert [(row["id"], row["text"], row["source"]) for row in rows] == [
        (each.id, each.text, each.source) for each in documents
    ]
    assert "short.py" not in {row["source"] for row in rows}


def test_limit_and_offset_walk_through_all_rows_once(look):
    whole = look("inspect", "split", "--limit", "100", "--json").rows
    pages = [
        look("inspect", "split", "--limit", "7", "--offset", str(at), "--json").rows for at in range(0, 70, 7)
    ]
    assert [row for page in pages for row in page] == whole
    assert len({row["id"] for row in whole}) == len(whole) == 40
    assert [row["part"] for row in whole] == sorted((row["part"] for row in whole), key=PARTS.index)
    assert len(look("inspect", "clean").out.split("── ")) == 1 + 5


PARTS = ["train", "validation", "test"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_can_be_named_in_two_ways(look, part):
    rows = look("inspect", f"split/{part}", "--limit", "100", "--json").rows
    assert rows
    assert {row["part"] for row in rows} == {part}
    assert look("inspect", "split", "--part", part, "--limit", "100", "--json").rows == rows
    assert [row["number"] for row in rows] == list(range(len(rows)))


def test_rows_are_chosen_by_source_and_by_text(look):
    by_source = look("inspect", "corpus", "--source", "water_*", "--json").rows
    assert [row["source"] for row in by_source] == ["water_00.py", "water_10.py", "water_20.py"]
    skipped = look("inspect", "corpus", "--source", "water_*", "--offset", "1", "--limit", "1", "--json").rows
    assert skipped == by_source[1:2]
    by_text = look("inspect", "tokens", "--contains", "café 3", "--json").rows
    assert [row["source"] for row in by_text] == ["rows.jsonl"]
    assert "no row matches" in look("inspect", "corpus", "--contains", "nowhere to be found").out


def test_examples_show_prompt_and_response(look):
    (row,) = look("inspect", "pairs", "--source", "race_02.py", "--json").rows
    assert row["response"].startswith("Turn the")
    assert "def race_2(x)" in row["prompt"]
    assert row["response"] not in row["prompt"]
    assert row["response"] in look("inspect", "pairs", "--source", "race_02.py").out


def test_tokens_are_decoded_and_their_targets_marked(look):
    (row,) = look("inspect", "pair_tokens", "--source", "race_02.py", "--json").rows
    (example,) = look("inspect", "pairs", "--source", "race_02.py", "--json").rows
    assert row["text"] == example["prompt"] + example["response"] + "<|endoftext|>"
    targets = [segment["text"] for segment in row["segments"] if segment["target"]]
    assert targets == [example["response"] + "<|endoftext|>"]
    assert sum(row["loss_mask"]) == row["num_targets"] < len(row["input_ids"])
    said = look("inspect", "pair_tokens", "--source", "race_02.py").out
    assert f"⟦{example['response']}<|endoftext|>⟧" in said
    assert str(row["input_ids"][0]) in said


def test_tokens_of_documents_agree_with_the_tokenizer(look, tiny):
    rows = look("inspect", "tokens/test", "--limit", "100", "--json").rows
    store = Store(tiny.url)
    (folder,) = [each.folder for each in store.artifacts() if each.manifest.stage == "tokenizer"]
    tokenizer = Tokenizer.load(folder.local())
    documents = look("inspect", "split/test", "--limit", "100", "--json").rows
    for row, document in zip(rows, documents, strict=True):
        assert row["input_ids"] == [*tokenizer.encode(document["text"]).tolist(), tokenizer.eos_id]
        assert row["text"] == document["text"] + "<|endoftext|>"


def test_tokens_without_their_tokenizer_show_ids(headrace, make_tiny):
    tiny = make_tiny()
    built = tiny.build(["tokens"])
    built["tokenizer"].folder.delete()
    key = built["tokens"].manifest.key
    said = headrace("inspect", key, *tiny.overrides)
    assert "no longer in the store" in said.out
    assert "ids " in said.out
    assert (
        "tokenizer is not in the store"
        in headrace("inspect", key, "--contains", "x", *tiny.overrides).error()
    )


def test_long_texts_are_cut_and_say_so(look):
    assert "more characters" in look("inspect", "clean", "--characters", "20").out
    assert "more characters" not in look("inspect", "clean", "--characters", "0").out


def test_a_tokenizer_shows_its_tokens_and_how_it_splits(look):
    facts = look("inspect", "tokenizer", "--json").json
    assert facts["vocab_size"] == 320
    assert facts["special_tokens"]["<|endoftext|>"] == 0
    lengths = [len(token) for token in facts["longest_tokens"]]
    assert lengths == sorted(lengths, reverse=True)
    for sample in facts["samples"]:
        assert len(sample["ids"]) == len(sample["pieces"])
    holding = look("inspect", "tokenizer", "--contains", "return", "--json").json["longest_tokens"]
    assert holding
    assert all("return" in token for token in holding)
    assert "how it splits" in look("inspect", "tokenizer").out


@pytest.mark.parametrize("node", ["base", "export"])
def test_a_model_lists_its_tensors(look, node):
    facts = look("inspect", node, "--json").json
    artifact = look("show", node, "--json").json
    stored = safetensors.load_file(f"{artifact['url']}/model.safetensors")
    assert {each["name"]: tuple(each["shape"]) for each in facts["tensors"]} == {
        name: tensor.shape for name, tensor in stored.items()
    }
    assert facts["num_parameters"] == artifact["counters"].get("parameters", facts["num_parameters"])
    for each in facts["tensors"]:
        tensor = stored[each["name"]].astype(np.float64)
        assert each["root_mean_square"] == pytest.approx(np.sqrt((tensor**2).mean()))
    said = look("inspect", node, "--limit", "2")
    assert f"and {len(stored) - 2} more" in said.out


def test_a_report_shows_metrics_and_samples(look):
    facts = look("inspect", "score", "--limit", "1", "--json").json
    assert facts["metrics"]["eval/loss"] > 0
    assert len(facts["samples"]) == 1
    assert "sample 1" in look("inspect", "score").out


def test_control_characters_cannot_reach_the_terminal(headrace, make_tiny):
    tiny = make_tiny()
    (tiny.recipe.parent / "corpus" / "evil.txt").write_text(
        "a text \x1b[2J that clears the screen\x07 of yours"
    )
    tiny.build(["corpus"])
    said = headrace("inspect", "corpus", "--source", "evil.txt", *tiny.overrides)
    assert "\x1b" not in said.out
    assert "␛[2J" in said.out


def test_rows_are_read_from_a_remote_store(look, monkeypatch):
    """As from S3: no memory map, no local path; the object store itself is tested with the store."""
    local = look("inspect", "tokens", "--json").rows
    monkeypatch.setattr(Folder, "is_local", property(lambda _: False))
    assert look("inspect", look("show", "tokens", "--json").json["url"], "--json").rows == local


def test_numbers_out_of_range_are_refused(look):
    for option in ("--limit", "--offset", "--characters"):
        assert f"{option} is -1" in look("inspect", "clean", option, "-1").error()
    assert 'did you mean "train"?' in look("inspect", "split", "--part", "trian").error()
    assert "no parts" in look("inspect", "clean", "--part", "train").error()


def test_shards_of_another_tokenizer_than_their_lineage_are_refused(headrace, make_tiny):
    tiny = make_tiny()
    built = tiny.build(["tokens"])
    spec = built["tokenizer"].folder.read_bytes("tokenizer.json")
    other = spec.replace(b'"<|pad|>"', b'"<|pat|>"')
    built["tokenizer"].folder.write_bytes("tokenizer.json", other)
    config = built["tokenizer"].folder.read_bytes("tokenizer_config.json").replace(b"<|pad|>", b"<|pat|>")
    built["tokenizer"].folder.write_bytes("tokenizer_config.json", config)
    said = headrace("inspect", built["tokens"].manifest.key, *tiny.overrides)
    assert "their lineage names" in said.error(3)


def test_rows_become_a_page_whose_text_is_text(look, tmp_path):
    page = tmp_path / "rows.html"
    said = look("inspect", "tokens/train", "--html", str(page), "--limit", "2")
    assert said.out.strip() == str(page)
    content = page.read_text()
    assert content.count("── ") == 2
    assert "<script" not in content


def test_a_page_that_cannot_be_written_is_an_error(look, tmp_path):
    assert (
        "cannot be written" in look("inspect", "tokens", "--html", str(tmp_path / "no" / "rows.html")).error()
    )


def test_the_clusters_of_duplicates_are_listed(look):
    rows = look("inspect", "dedup", "--list", "clusters", "--json").rows
    assert rows == [
        {"id": name, "cluster": "again.py", "stays": name == "again.py", "kind": "exact", "similarity": 1.0}
        for name in ("again.py", "water_00.py")
    ]
    said = look("inspect", "dedup", "--list", "clusters", "--contains", "water_00").out
    assert len(said.splitlines()) == 2
    assert said.splitlines()[1].split() == ["water_00.py", "again.py", "false", "exact", "1.0"]


def test_a_list_that_is_not_kept_is_named(look):
    assert "--list" in look("inspect", "dedup", "--list", "clutsers").error()
    assert "clusters" in look("inspect", "dedup", "--list", "clutsers").error()
    assert "keeps no list" in look("inspect", "clean", "--list", "clusters").error()


def test_a_tokenizer_comes_with_what_it_makes_of_its_corpus(look):
    facts = look("inspect", "imported", "--json").json
    report = facts["report"]
    assert report["hash"] == facts["hash"]
    assert report["by_script"]["Latin"]["bytes_per_token"] > 1
    assert report["control_tokens_that_text_spells"] == []
    said = look("inspect", "tokenizer").out
    assert "bytes/token" in said
    assert "Latin" in said
