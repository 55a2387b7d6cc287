"""`headrace plan --probe`: a few real steps of the named training nodes on the real device, before the plan is made."""

import signal
import time
from typing import TextIO

from pipeline.cluster import connected
from pipeline.dag.events import Status
from pipeline.dag.plan import Plan
from pipeline.errors import ConfigError
from pipeline.report import quiet
from pipeline.stages import training_node
from pipeline.stages.pretrain import Pretrain
from pipeline.verbs.run import log_folder
from pipeline.verbs.session import Session


def probe_nodes(session: Session, plan: Plan, named: list[str]) -> None:
    """Measure the training nodes among the named ones, or all that the plan would run; the store remembers it.

    Raises:
        ConfigError: there is none, or the size of its vocabulary is not known yet.
        StageFailedError: the steps failed, as those of the training would.
    """
    nodes = _training_nodes(session, plan, named)
    vocabularies = {node: _vocabulary(session, plan, node) for node in nodes}
    session.store.check_writable()
    log_path = log_folder(session) / f"probe-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.log"
    with quiet(log_path) as streams, connected(session.config.cluster, on_loss=_end):
        for node in nodes:
            streams.err.write(
                f"{node}: a few steps with random tokens; nothing is kept of them but their time\n"
            )
            _probe(session, node, vocabularies[node], streams.err)


def _end() -> None:
    """From a thread, when Ray has died: the main thread would wait for it for good."""
    signal.raise_signal(signal.SIGINT)


def _training_nodes(session: Session, plan: Plan, named: list[str]) -> list[str]:
    ahead = [each.node for each in plan.nodes if each.status in (Status.RUN, Status.WAIT)]
    trainings = [node for node in ahead if isinstance(session.graph.stages[node], Pretrain)]
    found = [node for node in trainings if not named or node in named]
    if not found:
        raise ConfigError(
            "there is no training to probe" + (f" among {', '.join(named)}" if named else ""),
            where="--probe",
            allowed=f"nodes of the stage pretrain that are still to be run: {', '.join(trainings) or 'none'}",
            do="name one of these, or leave --probe away",
        )
    return found


def _vocabulary(session: Session, plan: Plan, node: str) -> int:
    stage = session.graph.stages[node]
    assert isinstance(stage, Pretrain)
    size = stage.model.vocab_size or training_node.vocabulary(session.planner.known_inputs(node, plan))
    if size is None:
        tokenizer = session.graph.edges[node]["tokenizer"][0].node
        raise ConfigError(
            f'the vocabulary of "{node}" is not known yet, and the steps depend on its size',
            where=f"stages.{node}.model.vocab_size",
            allowed="a number, or a tokenizer that is built",
            do=f"run `headrace run {tokenizer}` first, or set stages.{node}.model.vocab_size",
        )
    return size


def _probe(session: Session, node: str, vocab_size: int, stream: TextIO) -> None:
    from pipeline.dag.tasks import MailboxChannel, drain, new_mailbox
    from pipeline.training.job import Places, TrainingJob
    from pipeline.training.workers import PROBE, launch

    stage = session.graph.stages[node]
    assert isinstance(stage, Pretrain)
    work = session.store.root.child(f"work/probe/{node}-{time.time_ns()}")
    job = TrainingJob(
        model=stage.model.with_vocab_size(vocab_size),
        training=training_node.training_config(stage),
        train_tokens={},
        tokenizer=work,
        tokenizer_hash="",
    )
    mailbox = new_mailbox()
    try:
        launch(
            job,
            resources=session.config.resources_of(node),
            channel=MailboxChannel(mailbox, node),
            places=Places(work.child("scratch"), work.child("output"), session.store.measured),
            vocab_size=vocab_size,
            task=PROBE,
        )
    finally:
        work.delete()
        for _, event in drain(mailbox):
            if event["kind"] == "note":
                stream.write(f"{node}: {event['text']}\n")
