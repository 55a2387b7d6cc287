import ast
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Document, DocumentWriter, document_batches
from data.example_sources import ExampleRules, from_fields, from_python_source
from data.examples import (
    Example,
    ExampleCounters,
    ExampleWriter,
    Refusal,
    Refused,
    read_examples,
    token_format,
    tokenize_example,
)
from data.shards import TokenShards, TokenWriter
from data.tokenize import tokenize_documents

RULES = ExampleRules()
SOURCE = '''
import os\x0c

class Tree:
    """Not a function."""

    @property
    def depth(self) -> int:
        """Height of the tree.

        More words.
        """
        def inner(node):
            "Of one node."
            return node
        return inner(self)

    async def grow(self): pass


if True:
    def only(): "alone"

    def one(): "here"; return 1

    def bare():
        """
        """
        return 2

    def stub():
        """A stub."""
'''


def summaries(text: str, rules: ExampleRules = RULES) -> dict[str, Example | Refused]:
    found = list(from_python_source(Document("d.py", text, "d.py"), rules=rules))
    assert len({item.id for item in found}) == len(found)
    return {item.id.split(":")[1] if ":" in item.id else item.id: item for item in found}


def test_each_function_is_an_example_or_a_counted_reason():
    found = summaries(SOURCE)
    reasons = {name: item.reason for name, item in found.items() if isinstance(item, Refused)}
    assert reasons == {
        "Tree.grow": Refusal.NO_DOCSTRING,
        "only": Refusal.NO_BODY,
        "one": Refusal.ONE_LINE,
        "bare": Refusal.EMPTY_RESPONSE,
        "stub": Refusal.NO_BODY,
    }
    assert {name for name in found if name not in reasons} == {"Tree.depth", "Tree.depth.inner"}


def test_a_prompt_is_the_source_without_its_docstring():
    found = summaries(SOURCE)
    inner = found["Tree.depth.inner"]
    assert inner.prompt == "def inner(node):\n    return node\n\n### Summary\n"
    assert inner.response == "Of one node."
    assert inner.id == "d.py:Tree.depth.inner:13"
    depth = found["Tree.depth"]
    assert depth.prompt.startswith("@property\ndef depth(self) -> int:\n    def inner(node):\n")
    assert depth.response == "Height of the tree."


def test_line_ends_of_any_kind_count_as_python_counts_them():
    text = 'x = "\x0c\x1c\u2028"\r\ndef f():\r    """First.\x0b"""\r\n    return 1\r'
    found = summaries(text)["f"]
    assert (found.prompt, found.response) == ("def f():\n    return 1\n\n### Summary\n", "First.")


def test_prompts_of_the_standard_library_parse_and_hold_no_docstring(stdlib_documents):
    counters = ExampleCounters()
    for document in stdlib_documents[:12]:
        for item in from_python_source(document, rules=ExampleRules(max_prompt_characters=3000)):
            counters.add(item)
            if isinstance(item, Example):
                function = ast.parse(item.prompt.removesuffix("### Summary\n")).body[0]
                assert ast.get_docstring(function) is None or isinstance(function.body[0], ast.Expr)
                assert "\n" not in item.response
                assert len(item.prompt) <= 3000
    assert counters.num_candidates == counters.num_examples + counters.refused.total()
    assert counters.num_examples > 20
    assert counters.as_dict()["candidates"] == counters.num_candidates


@pytest.mark.parametrize("text", ["def f(:\n", "x = '\x00'", "(" * 10_000])
def test_what_does_not_parse_is_one_outcome(text):
    assert summaries(text)["d.py"].reason is Refusal.SYNTAX_ERROR


def test_long_prompts_are_refused_and_counted():
    assert (
        summaries(SOURCE, ExampleRules(max_prompt_characters=40))["Tree.depth"].reason
        is Refusal.PROMPT_TOO_LONG
    )


def fields_of(row: dict, text: str = "the text", **names) -> Example | Refused:
    document = Document("f.jsonl#3", text, "f.jsonl", 3, json.dumps(row))
    names = {"prompt_field": "q", "response_field": "a"} | names
    return from_fields(document, rules=ExampleRules(template="Q: {input}\n"), **names)


def test_two_fields_of_a_row_are_an_example():
    expected = Example("f.jsonl#3", "f.jsonl", "Q: {1+1}\n", "two")
    assert fields_of({"q": "{1+1}", "a": " two\n"}) == expected
    assert fields_of({"q": "{1+1}"}, text="two", response_field="text") == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"q": "x"}, Refusal.MISSING_FIELD),
        ({"q": "x", "a": 3}, Refusal.WRONG_TYPE),
        ({"q": " ", "a": "y"}, Refusal.EMPTY_PROMPT),
        ({"q": "x", "a": " \n"}, Refusal.EMPTY_RESPONSE),
        ({"q": "\ud800", "a": "y"}, Refusal.INVALID_UNICODE),
    ],
)
def test_rows_that_are_no_example_say_why(row, reason):
    assert fields_of(row).reason is reason


printable = st.text(min_size=1).filter(lambda text: text.strip())


@given(prompt=printable, response=printable)
def test_the_mask_is_on_the_response_and_the_end_of_text_only(tokenizer, prompt, response):
    row = tokenize_example(Example("a", "s", prompt, response), tokenizer=tokenizer)
    ids, mask = row.input_ids, row.loss_mask
    assert tokenizer.decode(ids[mask == 0]) == prompt
    assert tokenizer.decode(ids[mask == 1][:-1]) == response
    assert ids[-1] == tokenizer.eos_id
    assert (np.diff(mask.astype(int)) >= 0).all()
    assert row.num_bytes == len(response.encode())


def test_an_example_of_too_many_tokens_is_refused_whole(tokenizer):
    example = Example("a", "s", "prompt\n", "response")
    length = len(tokenize_example(example, tokenizer=tokenizer).input_ids)
    assert len(tokenize_example(example, tokenizer=tokenizer, max_tokens=length).input_ids) == length
    refused = tokenize_example(example, tokenizer=tokenizer, max_tokens=length - 1)
    assert (refused.reason, refused.detail) == (Refusal.TOO_MANY_TOKENS, f"{length} of {length - 1}")


@given(st.lists(st.builds(Example, id=st.text(), source=st.text(), prompt=st.text(), response=st.text())))
def test_examples_come_back_as_they_were_and_the_same_rows_give_the_same_bytes(rows):
    files = []
    for _ in range(2):
        sink = io.BytesIO()
        with ExampleWriter(sink) as writer:
            for row in rows:
                writer.write(row)
        files.append(sink.getvalue())
    assert files[0] == files[1]
    assert list(read_examples(io.BytesIO(files[0]))) == rows


def test_examples_and_documents_become_shards(tokenizer, tmp_path, stdlib_documents):
    documents = stdlib_documents[:3]
    paths = [tmp_path / "examples.arrow", tmp_path / "documents.arrow"]
    with TokenWriter(paths[0], token_format=token_format(tokenizer, has_loss_mask=True)) as writer:
        writer.write(tokenize_example(Example("a", "s", "prompt\n", "response"), tokenizer=tokenizer))
    assert TokenShards(paths[:1], tokenizer_hash=tokenizer.hash).loss_mask is not None
    stored = tmp_path / "stored.arrow"
    with DocumentWriter(stored) as texts:
        for document in documents:
            texts.write(document)
    with TokenWriter(paths[1], token_format=token_format(tokenizer, has_loss_mask=False)) as writer:
        for row in tokenize_documents(document_batches(stored), tokenizer=tokenizer):
            writer.write(row)
    shards = TokenShards(paths[1:])
    text = tokenizer.decode(shards.tokens.read(0, shards.num_tokens))
    assert text == "".join(f"{document.text}<|endoftext|>" for document in documents)
    assert shards.num_bytes == sum(len(document.text.encode()) for document in documents)


def test_impossible_templates_are_named():
    for template in ("no place\n", "{input}{input}\n", "{input}"):
        assert [problem.field for problem in ExampleRules(template=template).problems()] == ["template"]
    assert ExampleRules().problems() == []
