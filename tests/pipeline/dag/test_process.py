"""Whether a process still lives, told by another one."""

import subprocess

import pytest

from pipeline.dag.process import ProcessId


def test_a_process_is_gone_when_it_ended_or_its_id_was_given_away():
    ended = subprocess.Popen(["true"])
    ended.wait()
    current = ProcessId.current()
    assert not current.is_gone()
    assert current._replace(pid=ended.pid).is_gone()
    assert current._replace(started_at=current.started_at - 1000).is_gone()


def test_nothing_is_said_of_another_machine():
    assert not ProcessId("elsewhere", 1, 0.0).is_gone()


def test_a_process_reads_back_from_its_text():
    current = ProcessId.current()
    again = ProcessId.parse(str(current))
    assert (again.machine, again.pid) == (current.machine, current.pid)
    assert not again.is_gone()
    with pytest.raises(ValueError, match="unpack"):
        ProcessId.parse("words")
