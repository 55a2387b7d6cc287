"""`export_vectors`: word vectors as a file that other programs read."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from data.vectors.interchange import VectorFormat, write_vectors
from data.vectors.word_vectors import WordVectors
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, port

FILE_NAMES = {
    VectorFormat.text: "vectors.vec",
    VectorFormat.binary: "vectors.bin",
    VectorFormat.fasttext: "fasttext.bin",
}


@dataclass
class ExportVectors(Stage):
    """Writes `vectors.vec` (text), `vectors.bin` (binary) or `fasttext.bin` (fastText's own, with subwords)."""

    name: ClassVar[str] = "export_vectors"
    produces: ClassVar[str] = "vectors_export"

    @dataclass
    class Inputs:
        vectors: str = port("vectors")
        "What to write."

    inputs: Inputs = field(default_factory=Inputs)
    form: VectorFormat = VectorFormat.text
    "text, binary or fasttext."

    def problems(self) -> list[Problem]:
        if self.form in FILE_NAMES:
            return []
        allowed = ", ".join(each.name for each in FILE_NAMES)
        return [Problem("form", f"form is {self.form.name}", allowed, "say how the file is to be written")]

    def run(self, context: StageContext) -> StageResult:
        item = (context.one("vectors").folder, self.form, context.output)
        (result,) = context.map(export_file, {"vectors": item}, unit="files").values()
        return StageResult(result)


def export_file(folder: Folder, form: VectorFormat, output: Folder) -> dict[str, Any]:
    """One file of the format."""
    vectors = WordVectors.load(folder.local())
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / FILE_NAMES[form]
        write_vectors(vectors, path, form=form)
        output.upload(path, path.name)
    return {"words": len(vectors.words), "width": vectors.width}
