"""`import_vectors`: word vectors that others learned become an artifact."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from data.vectors.interchange import VectorFormat, read_vectors
from pipeline.dag.folder import Folder
from pipeline.dag.stage import ExternalFile, NoInputs, Problem, Stage, StageContext, StageResult, circumstance
from pipeline.stages.ingest import FILES
from pipeline.stages.word_vectors import write_artifact


@dataclass
class ImportVectors(Stage):
    """Reads word2vec's text or binary format, GloVe's text, or fastText's .bin with its subwords.

    Its identity is the name and bytes of the file; where it lies is circumstance.
    """

    name: ClassVar[str] = "import_vectors"
    produces: ClassVar[str] = "vectors"

    inputs: NoInputs = field(default_factory=NoInputs)
    path: str = circumstance("")
    "A .vec, .txt or .bin file."
    form: VectorFormat = VectorFormat.auto
    "auto, text, binary or fasttext. auto: by what the file begins with."

    def problems(self) -> list[Problem]:
        if self.path:
            return []
        return [
            Problem("path", "no file is named", "a .vec, .txt or .bin file", "set it, as in path=glove.txt")
        ]

    @property
    def file(self) -> Path:
        return Path(self.path).expanduser()

    def external_files(self) -> list[ExternalFile]:
        return [ExternalFile(self.file.name, str(self.file))]

    def run(self, context: StageContext) -> StageResult:
        item = (str(self.file.absolute()), self.form, context.output)
        (result,) = context.map(import_file, {"vectors": item}, unit="files").values()
        place = {"name": self.file.name, "path": str(self.file), "bytes": self.file.stat().st_size}
        context.output.write_json(FILES, [place])
        return StageResult(result)


def import_file(path: str, form: VectorFormat, output: Folder) -> dict[str, Any]:
    """The file's vectors as an artifact."""
    vectors = read_vectors(Path(path), form=form)
    write_artifact(vectors, output)
    return {"words": len(vectors.words), "width": vectors.width}
