"""What a student may learn from a teacher, and which teachers it can have. Torch-free; see `model.distillation`."""

from model.config import ModelConfig, classes_of
from model.flops import num_parameters
from pipeline.dag.stage import Problem
from pipeline.training.config import Precision, TrainingConfig
from pipeline.training.memory import FP32, HALF
from pipeline.training.objective import Distillation, Objective

TEACHER = "inputs.teacher"


def teacher_problems(student: ModelConfig, teacher: ModelConfig, config: TrainingConfig) -> list[Problem]:
    """What is wrong between a student and its teacher, as far as their configs tell."""
    objective = config.objective_of(student)
    if found := _objective_problems(objective, config):
        return found
    unfit = config.model_problems(teacher, seq_len=config.seq_len)
    if unfit or config.objective_of(teacher) is not objective:
        why = f": {unfit[0].what}" if unfit else ""
        what = f"this {teacher.architecture} model cannot teach {objective.name}{why}"
        return [_wrong_teacher(what, f"one that {objective.name} trains")]
    return _knowledge_problems(student, teacher, config) or _size_problems(student, teacher, config)


def _knowledge_problems(student: ModelConfig, teacher: ModelConfig, config: TrainingConfig) -> list[Problem]:
    """A teacher whose probabilities are of something else."""
    if None not in (student.vocab_size, teacher.vocab_size) and student.vocab_size != teacher.vocab_size:
        what = f"the teacher tells {teacher.vocab_size} tokens apart, and the student {student.vocab_size}"
        return [_wrong_teacher(what, "two models of one vocabulary")]
    theirs, ours = list(classes_of(teacher)), list(classes_of(student))
    if config.objective_of(student) is Objective.classification and theirs != ours:
        what = f"the teacher knows the classes {theirs}, and the student {ours}"
        return [_wrong_teacher(what, "the same classes in the same order")]
    return []


def _size_problems(student: ModelConfig, teacher: ModelConfig, config: TrainingConfig) -> list[Problem]:
    longest = max(config.reads(teacher, config.seq_len))
    if longest > teacher.max_seq_len:
        what = f"sequences of {longest} tokens do not fit a teacher of {teacher.max_seq_len}"
        return [Problem("seq_len", what, f"at most {teacher.max_seq_len}", "shorten them")]
    if config.distillation.hidden_weight and student.hidden_size != teacher.hidden_size:
        what = f"hidden states of {student.hidden_size} cannot be drawn to those of a teacher, of {teacher.hidden_size}"
        allowed = "0, or two models of one hidden_size"
        return [Problem("distillation.hidden_weight", what, allowed, "set distillation.hidden_weight=0")]
    return []


def _objective_problems(objective: Objective, config: TrainingConfig) -> list[Problem]:
    """Of an objective that has a teacher."""
    if objective is Objective.regression:
        allowed = f"of {', '.join(each.name for each in Objective if each is not objective)}"
        what = "a number has no soft targets, so regression has no teacher"
        return [Problem(TEACHER, what, allowed, "leave inputs.teacher empty")]
    if objective is Objective.classification and config.distillation.hidden_weight:
        what = "classification learns a teacher's probabilities, not its hidden states"
        return [Problem("distillation.hidden_weight", what, "0", "set distillation.hidden_weight=0")]
    return []


def own_problems(config: TrainingConfig, teacher: str) -> list[Problem]:
    """Of settings that say something where no teacher is named."""
    if teacher or config.distillation == Distillation():
        return []
    what = "it says how to learn from a teacher, and there is none"
    return [
        Problem(
            "distillation",
            what,
            "the defaults without a teacher",
            f"set {TEACHER} to a node, or leave it out",
        )
    ]


def teacher_bytes(teacher: ModelConfig, config: TrainingConfig) -> int:
    """What its weights take of every rank, which has all of them."""
    return num_parameters(teacher) * (FP32 if config.precision is Precision.fp32 else HALF)


def _wrong_teacher(what: str, allowed: str) -> Problem:
    return Problem(TEACHER, what, f"a teacher: {allowed}", "name another node, or leave inputs.teacher empty")
