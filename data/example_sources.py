"""Examples out of documents: a function's summary from its source, or two fields of a row."""

import ast
import inspect
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent

from data.documents import Document
from data.errors import Problem
from data.examples import Example, Refusal, Refused

Function = ast.FunctionDef | ast.AsyncFunctionDef
INPUT = "{input}"
_LINE_END = re.compile(r"\r\n|\r|\n")  # Python's; str.splitlines also parts at form feeds
TEXT_FIELD = "text"  # a field of this name is the document's text itself


@dataclass
class ExampleRules:
    """How a prompt is written."""

    template: str = "{input}\n\n### Summary\n"
    "The prompt, with {input} where the function's source or the prompt field goes; it must end in white space."
    max_prompt_characters: int | None = 8000
    "A longer prompt is refused and counted. None: any length."

    def problems(self) -> list[Problem]:
        if self.template.count(INPUT) != 1:
            return [Problem("template", f"{self.template!r}", f"a text with {INPUT} in it once")]
        if not self.template[-1].isspace():  # so that the response's first word is its own token
            return [
                Problem(
                    "template", f"{self.template!r} runs into the response", "a text that ends in a line end"
                )
            ]
        return []


def from_python_source(document: Document, *, rules: ExampleRules) -> Iterator[Example | Refused]:
    """For each function of a Python file: its source without the docstring, and the docstring's first line.

    Methods and nested functions count as functions. A function without a docstring is an outcome as well.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of invalid escapes in other people's strings
            tree = ast.parse(document.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield Refused(document.id, document.source, Refusal.SYNTAX_ERROR, str(error))
        return
    lines = _LINE_END.split(document.text)
    for name, function in _functions(tree):
        example_id = f"{document.id}:{name}:{function.lineno}"
        outcome = _summary(function, lines)
        if isinstance(outcome, Refusal):
            yield Refused(example_id, document.source, outcome)
        else:
            yield _example(example_id, document.source, outcome, rules)


def from_fields(
    document: Document, *, prompt_field: str, response_field: str, rules: ExampleRules
) -> Example | Refused:
    """Two fields of a row: keys of the document's metadata, or `text` for the document's text itself."""
    row = json.loads(document.metadata) if document.metadata else {}
    row[TEXT_FIELD] = document.text
    for name in (prompt_field, response_field):
        if name not in row:
            return Refused(
                document.id, document.source, Refusal.MISSING_FIELD, f"{name!r} among {sorted(row)}"
            )
        if not isinstance(row[name], str):
            return Refused(document.id, document.source, Refusal.WRONG_TYPE, f"{name!r} is no string")
    return _example(document.id, document.source, (row[prompt_field], row[response_field]), rules)


def _example(example_id: str, source: str, pair: tuple[str, str], rules: ExampleRules) -> Example | Refused:
    content, response = pair[0], pair[1].strip()
    prompt = rules.template.replace(INPUT, content)
    reason = _objection(content, prompt, response, rules)
    if reason is not None:
        return Refused(example_id, source, reason)
    return Example(example_id, source, prompt, response)


def _objection(content: str, prompt: str, response: str, rules: ExampleRules) -> Refusal | None:
    if not content or content.isspace():
        return Refusal.EMPTY_PROMPT
    if not response:
        return Refusal.EMPTY_RESPONSE
    if rules.max_prompt_characters is not None and len(prompt) > rules.max_prompt_characters:
        return Refusal.PROMPT_TOO_LONG
    try:
        (prompt + response).encode()
    except UnicodeEncodeError:
        return Refusal.INVALID_UNICODE
    return None


def _functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Each function with its qualified name, in the order of the file."""
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        prefix, node = stack.pop()
        name = prefix
        if isinstance(node, Function | ast.ClassDef):
            name = f"{prefix}.{node.name}" if prefix else node.name
        if isinstance(node, Function):
            yield name, node
        stack += [(name, child) for child in reversed(_statements(node))]


def _statements(node: ast.AST) -> list[ast.AST]:
    """What may hold functions: the statements below a node, and the clauses of try and match; no expression."""
    blocks = (getattr(node, name, []) for name in ("body", "handlers", "cases", "orelse", "finalbody"))
    return [child for block in blocks for child in block]


def _summary(function: Function, lines: list[str]) -> tuple[str, str] | Refusal:
    """The function's source without its docstring, and the docstring's first line."""
    first = function.body[0]
    docstring = ast.get_docstring(function, clean=False)
    if docstring is None:
        return Refusal.NO_DOCSTRING
    if len(function.body) == 1:
        return Refusal.NO_BODY
    end = first.end_lineno or first.lineno
    if _shares_a_line(function, lines):
        return Refusal.ONE_LINE
    begin = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    kept = lines[begin - 1 : first.lineno - 1] + lines[end : function.end_lineno]
    return dedent("\n".join(kept)).strip("\n"), inspect.cleandoc(docstring).strip().partition("\n")[0]


def _shares_a_line(function: Function, lines: list[str]) -> bool:
    """Whether anything but a comment stands before or behind the docstring on its own lines."""
    docstring, following = function.body[0], function.body[1]
    before = lines[docstring.lineno - 1].encode()[: docstring.col_offset]
    return bool(before.strip()) or following.lineno == docstring.end_lineno
