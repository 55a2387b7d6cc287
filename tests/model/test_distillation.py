"""Learning from a teacher: the loss and gradients of the formula, written out over all logits at once."""

import pytest
import torch
import torch.nn.functional as F

from model import head
from model.distillation import Teacher
from model.objectives import CausalLM, MaskedLM, OwnClassification, PrefixLM, Seq2SeqLM
from tests.model.conftest import EVERY, random_model

VOCAB = 97
TEACHERS = {
    "llama": "gpt2",
    "gpt2": "rnn-lstm",
    "bert": "roberta",
    "rnn-encoder-masked": "bert",
    "t5": "transformer",
    "rnn-seq2seq": "t5-v1.1",
}
"Student to teacher: any two models that read the same may be paired."


def objective_of(model, **settings):
    if model.config.size().source:
        return Seq2SeqLM(model, **settings)
    return (CausalLM if model.config.is_causal else MaskedLM)(model)


def batch_of(model, fraction):
    """What it reads, some labels of which are none."""
    ids, other, labels = torch.randint(VOCAB, (3, 2, 11)).unbind()
    labels[torch.rand(labels.shape) < fraction] = -100
    given = (ids, other) if model.config.size().source else (ids,)
    return given, labels


def plain_loss(student, teacher, given, labels, *, smoothing=0.0):
    """Hinton et al. 2015, section 2, and Sanh et al. 2019, section 3, over one tensor of logits."""
    has_target = labels != -100
    hidden, taught = student.hidden(*given)[has_target], teacher.model.hidden(*given)[has_target]
    logits, wanted = student.lm_head(hidden), teacher.model.lm_head(taught).detach()
    t = teacher.temperature
    hard = F.cross_entropy(logits, labels[has_target], reduction="sum", label_smoothing=smoothing)
    p = (wanted / t).softmax(dim=-1)
    soft = t * t * F.kl_div((logits / t).log_softmax(dim=-1), p, reduction="sum")
    apart = 0
    if teacher.hidden_weight:
        apart = F.cosine_embedding_loss(hidden, taught.detach(), torch.ones(len(hidden)), reduction="sum")
    return (1 - teacher.soft_weight) * hard + teacher.soft_weight * soft + teacher.hidden_weight * apart


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("chunk", [5, 4096])
@pytest.mark.parametrize("fraction", [0.1, 0.6])
@pytest.mark.parametrize("name", TEACHERS)
def test_loss_and_gradients_are_those_of_the_formula(name, fraction, chunk, monkeypatch):
    monkeypatch.setattr(head, "chunk_tokens", lambda weight: chunk)
    student = random_model(EVERY[name]).train()
    taught_by = random_model(EVERY[TEACHERS[name]]).eval().requires_grad_(requires_grad=False)
    same_width = student.config.hidden_size == taught_by.config.hidden_size
    teacher = Teacher(taught_by, temperature=3.0, soft_weight=0.7, hidden_weight=0.5 * same_width)
    smoothing = 0.1 if student.config.size().source else 0.0
    objective = objective_of(student, **({"label_smoothing": 0.1} if smoothing else {}))
    objective.teacher = teacher
    given, labels = batch_of(student, fraction)
    found = objective(*given, labels=labels)
    expected = plain_loss(student, teacher, given, labels, smoothing=smoothing)
    torch.testing.assert_close(found.loss_sum, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.by_sequence.sum(), expected.detach(), rtol=1e-5, atol=1e-4)
    assert found.num_targets == (labels != -100).sum()
    ours, theirs = gradients_of(student, found.loss_sum), gradients_of(student, expected)
    assert ours.keys() == theirs.keys()
    for each, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[each], rtol=1e-4, atol=1e-4)
    assert all(each.grad is None for each in taught_by.parameters())


@pytest.fixture
def pair():
    return random_model(EVERY["llama"]), random_model(EVERY["gpt2"]).eval()


def test_a_teacher_is_no_part_of_what_is_trained(pair):
    student, teacher = pair
    objective = CausalLM(student)
    names = [name for name, _ in objective.named_parameters()]
    objective.teacher = Teacher(teacher)
    assert [name for name, _ in objective.named_parameters()] == names
    assert not any("teacher" in name for name in objective.state_dict())


def test_an_evaluation_is_of_the_labels_alone(pair):
    student, teacher = pair
    (ids,), labels = batch_of(student, 0.2)
    plain = CausalLM(student).eval()(ids, labels)
    objective = CausalLM(student)
    objective.teacher = Teacher(teacher)
    assert objective.eval()(ids, labels).loss_sum == plain.loss_sum
    assert objective.train()(ids, labels).loss_sum != plain.loss_sum


def test_a_student_that_knows_as_much_has_nothing_to_learn(pair):
    student, _ = pair
    objective = CausalLM(student).train()
    objective.teacher = Teacher(student, soft_weight=1.0, hidden_weight=1.0)
    (ids,), labels = batch_of(student, 0.2)
    found = objective(ids, labels)
    assert found.loss_sum.abs() < 1e-4
    assert all(each.abs().max() < 1e-5 for each in gradients_of(student, found.loss_sum).values())


def test_a_prefix_is_read_by_the_teacher_too(pair):
    student, teacher = pair
    objective = PrefixLM(student).train()
    objective.teacher = Teacher(teacher, temperature=2.0, soft_weight=1.0)
    (ids,), labels = batch_of(student, 0.0)
    prefix = torch.zeros_like(ids)
    prefix[:, :4] = 1
    found = objective(ids, labels, prefix)
    hidden, taught = (each.hidden(ids, prefix_mask=prefix)[:, 3:] for each in (student, teacher))
    p, q = ((model.lm_head(x) / 2).log_softmax(dim=-1) for model, x in ((teacher, taught), (student, hidden)))
    torch.testing.assert_close(found.loss_sum, 4 * F.kl_div(q, p, reduction="sum", log_target=True))


def test_in_bf16_the_soft_loss_is_that_of_fp32_logits(pair):
    student, teacher = (each.to(torch.bfloat16) for each in pair)
    objective = CausalLM(student).train()
    objective.teacher = Teacher(teacher)
    (ids,), labels = batch_of(student, 0.1)
    found = objective(ids, labels)
    expected = plain_loss(student.float(), Teacher(teacher.float()), (ids,), labels)
    assert found.loss_sum.dtype == torch.float32
    torch.testing.assert_close(found.loss_sum, expected, rtol=2e-2, atol=0.0)


def test_classes_are_learnt_from_a_teacher_that_knows_them():
    student, teacher = (random_model(EVERY["bert-classifier"], seed=seed) for seed in (0, 1))
    objective = OwnClassification(student).train()
    objective.teacher = Teacher(teacher.eval(), temperature=4.0, soft_weight=0.3)
    ids = torch.randint(VOCAB, (5, 9))
    mask, labels = torch.ones_like(ids), torch.tensor([0, 2, 1, 1, -100])
    found = objective(ids, labels, mask)
    logits = objective.logits(ids, mask)[:4]
    wanted = OwnClassification(teacher).logits(ids, mask)[:4].detach()
    soft = 16 * F.kl_div((logits / 4).log_softmax(-1), (wanted / 4).softmax(-1), reduction="sum")
    expected = 0.7 * F.cross_entropy(logits, labels[:4], reduction="sum") + 0.3 * soft
    torch.testing.assert_close(found.loss_sum, expected)
    assert found.num_targets == 4
    ours, theirs = gradients_of(student, found.loss_sum), gradients_of(student, expected)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5)
