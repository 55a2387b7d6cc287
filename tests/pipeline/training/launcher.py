"""Jobs under a real Ray, from a thread: beside the tests that kill and watch them."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources
from pipeline.errors import HeadraceError

VOCAB_SIZE = 96


@dataclass
class Launcher:
    """Launches jobs from a thread, as a runner does."""

    ray: Any
    root: Path

    def __post_init__(self):
        from pipeline.dag.tasks import MailboxChannel, new_mailbox

        self.mailbox = new_mailbox()
        self.channel = MailboxChannel(self.mailbox, "node")
        self.stop = threading.Event()

    def start(self, job, name, **resources):
        outcome, folder = {}, open_folder(str(self.root / name))

        from pipeline.training.job import Places
        from pipeline.training.workers import launch

        def target():
            try:
                outcome["result"] = launch(
                    job,
                    resources=Resources(**resources),
                    channel=self.channel,
                    places=Places(folder.child("scratch"), folder.child("output")),
                    vocab_size=VOCAB_SIZE,
                    stop=self.stop,
                )
            except HeadraceError as error:
                outcome["error"] = error

        thread = threading.Thread(target=target)
        thread.start()
        return thread, outcome

    def run(self, job, name, **resources):
        thread, outcome = self.start(job, name, **resources)
        thread.join(timeout=300)
        assert not thread.is_alive(), "training has not ended"
        if "error" in outcome:
            raise outcome["error"]
        return outcome["result"]

    def notes(self):
        events = self.ray.get(self.mailbox.drain.remote())
        return [event["text"] for _, event in events if event["kind"] == "note"]

    def wait_for_checkpoint(self, name):
        deadline = time.monotonic() + 120
        while not list((self.root / name).glob("scratch/step-*/manifest.json")):
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.02)

    def rank_processes(self):
        here = psutil.Process()
        return [
            p for p in here.children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline()[:1] or [""])
        ]

    def weights(self, name):
        return (self.root / name / "output/model.safetensors").read_bytes()
