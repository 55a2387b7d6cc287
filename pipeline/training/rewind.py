"""Back to the last checkpoint, without the steps from there to here: what a spike may ask for."""

from pipeline.training.checkpoint import newest_whole, restore
from pipeline.training.checkpointer import Checkpointer
from pipeline.training.pulse import Phase


def rewind(checkpointer: Checkpointer, step: int) -> int:
    """Bring back the state of the newest whole checkpoint, and count all steps from there to `step` as left out.

    Called by all ranks together. The losses by which the next ones are judged stay; they were what they were. Training
    goes on with the step after `step`, at its own batch and learning rate. A run that is killed before its next
    checkpoint comes here again in the same way.

    Returns:
        The step of that checkpoint.
    """
    engine = checkpointer.engine
    engine.pulse.enter(Phase.checkpoint)
    checkpointer.settle()
    guarded = engine.spikes.state()
    manifest, _ = newest_whole(checkpointer.scratch, checkpointer.ranks)
    assert manifest is not None, "a run that may rewind has a checkpoint from its first step on"
    restore(engine, checkpointer.scratch, manifest)
    kept = int(manifest["step"])
    num_left_out = engine.spikes.num_left_out + step - kept
    engine.spikes.restore(guarded | {"num_left_out": num_left_out})
    return kept
