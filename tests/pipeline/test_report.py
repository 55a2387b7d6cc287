"""What a person sees of a run."""

import io
import os
import pty
import select
import subprocess
import sys
import time

import pytest
from rich.console import Console

from pipeline.dag.events import (
    NodeFailed,
    NodeFinished,
    NodeNote,
    NodeProgress,
    NodeReused,
    NodeStarted,
    PlannedNode,
    RunFinished,
    RunStarted,
    Status,
)
from pipeline.errors import ConfigError, StageFailedError
from pipeline.report import numbers, open_report, print_error, quiet
from pipeline.report.live import LiveReport
from pipeline.report.plain import PlainReport

BROKEN = StageFailedError("the loss is not finite", where="base, step 12", allowed="numbers", do="lower it")


def planned(*names: str) -> RunStarted:
    nodes = [PlannedNode(name, "clean", Status.RUN, ["new"]) for name in names]
    return RunStarted("r1", "quickstart", nodes, store="/data/store", log_path="/data/store/logs/run.log")


def started(name: str) -> NodeStarted:
    return NodeStarted(name, "clean", "k")


def reused(name: str) -> NodeReused:
    return NodeReused(name, "clean", "k", "/data/store/artifacts/clean/k")


def finished(name: str, seconds: float, counters: dict[str, int], metrics: dict[str, float]) -> NodeFinished:
    return NodeFinished(name, "clean", "k", "/data/store/artifacts/clean/k", "d", seconds, counters, metrics)


def ended(status: str) -> RunFinished:
    return RunFinished(status, 100, built=0, reused=0, failed=0)


def lines_of(stream: io.StringIO, word: str) -> list[str]:
    return [line for line in stream.getvalue().splitlines() if word in line]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.count(0), "0"),
        (numbers.count(1234), "1,234"),
        (numbers.count(12_345_678), "12.3M"),
        (numbers.count(999_999), "1.00M"),
        (numbers.count(2_300_000_000), "2.30B"),
        (numbers.size(512), "512 B"),
        (numbers.size(1536), "1.50 KiB"),
        (numbers.size(140 * 2**30), "140 GiB"),
        (numbers.duration(0.42), "0.4s"),
        (numbers.duration(59.7), "1m 00s"),
        (numbers.duration(80), "1m 20s"),
        (numbers.duration(7300), "2h 01m"),
        (numbers.duration(200_000), "2d 07h"),
        (numbers.rate(2340.4), "2,340/s"),
        (numbers.rate(2.1), "2.10/s"),
        (numbers.rate(0.1), "10s each"),
        (numbers.metric(3.21456), "3.215"),
        (numbers.metric(float("nan")), "nan"),
        (numbers.metric(0.00001), "1.00e-05"),
    ],
)
def test_numbers_read_as_a_person_says_them(shown, expected):
    assert shown == expected


def test_plain_lines_tell_a_run_from_its_plan_to_its_table():
    stream = io.StringIO()
    report = PlainReport(stream)
    plan = planned("clean", "tokens", "base")
    plan.nodes.append(PlannedNode("documents", "ingest", Status.REUSE))
    report.show(plan)
    report.show(reused("documents"))
    report.show(started("clean"))
    report.show(finished("clean", 80, {"num_documents": 12_345_678}, {"quality/kept_fraction": 0.91}))
    report.show(reused("tokens"))
    report.show(started("base"))
    report.show(NodeFailed("base", BROKEN))
    report.show(ended("FAILED"))
    report.close()
    text = stream.getvalue()
    assert "4 nodes, 3 to run, 1 reused" in text
    assert "kept_fraction 0.91 · 12.3M documents" in text
    assert "the same" in lines_of(stream, "tokens")[0]
    error = [
        line.split(maxsplit=1) for line in text.splitlines() if line.startswith("  ") and "node" not in line
    ]
    assert ["where:", "base, step 12"] in error
    assert ["do:", "lower it"] in error
    table = text[text.index("key figures") :]
    assert [line.split()[:3] for line in table.splitlines()[1:5]] == [
        ["clean", "✓", "built"],
        ["tokens", "=", "reused"],
        ["base", "✗", "failed"],
        ["documents", "=", "reused"],
    ]
    assert "/data/store/logs/run.log" in table
    assert "headrace ui" in table
    assert "same command" in table


def test_plain_progress_is_sparing():
    stream = io.StringIO()
    report = PlainReport(stream, progress_seconds=60)
    report.show(planned("base"))
    report.show(started("base"))
    for step in range(500):
        report.show(NodeProgress("base", step, 500, "steps", f"loss {step}"))
    report.close()
    assert len(lines_of(stream, "/500 steps")) == 1


def test_plain_output_is_never_silent_for_long():
    stream = io.StringIO()
    report = PlainReport(stream, silence_seconds=0.2)
    report.show(planned("base", "clean"))
    report.show(started("base"))
    report.show(NodeNote("base", "compiling"))
    report.show(started("clean"))
    time.sleep(1)
    report.close()
    assert lines_of(stream, "waiting for base, clean")


def terminal(width: int, height: int) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)


def frame(report: LiveReport, width: int, height: int) -> list[str]:
    """The lines of one picture, without the codes that move the cursor."""
    console = terminal(width, height)
    console.print(report.render())
    return console.file.getvalue().splitlines()


def live(width: int, height: int) -> LiveReport:
    console = terminal(width, height)
    return LiveReport(console.file, console=console)


def test_the_live_view_shows_each_node_with_its_progress():
    report = live(80, 24)
    report.show(planned("clean", "tokens", "base"))
    report.show(started("clean"))
    report.show(finished("clean", 80, {"documents": 1000}, {}))
    report.show(started("tokens"))
    report.show(NodeProgress("tokens", 10, 400, "shards"))
    time.sleep(0.1)
    report.show(NodeProgress("tokens", 20, 400, "shards", "loss 3.21"))
    heading, clean, tokens, base = frame(report, 80, 24)
    report.close()
    assert "1 built, 1 running, 1 waiting" in heading
    assert "1,000 documents" in clean
    assert clean.rstrip().endswith("1m 20s")
    assert "20/400 shards" in tokens
    assert "/s" in tokens
    assert "left · loss 3.21" in tokens
    assert "waiting" in base
    assert "new" in base


def test_the_live_view_of_many_nodes_fits_the_terminal_and_shows_what_happens_now():
    report = live(80, 24)
    names = [f"node_with_a_rather_long_name_{i:03d}" for i in range(200)]
    report.show(planned(*names))
    for name in names[:50]:
        report.show(reused(name))
    for name in (names[120], names[180]):
        report.show(started(name))
        report.show(NodeProgress(name, 3, 10, "shards", "x" * 200))
    shown = frame(report, 80, 24)
    report.close()
    assert len(shown) <= 23
    assert max(map(len, shown)) <= 80
    assert len([line for line in shown if "3/10 shards" in line]) == 2
    assert "50 reused, 2 running, 148 waiting" in shown[0]
    assert "more nodes" in shown[-1]


def drained(terminal):
    """All that was written to a terminal; one read gives a part of it."""
    parts = []
    while select.select([terminal], [], [], 0.2)[0]:
        parts.append(os.read(terminal, 100_000))
    return b"".join(parts).decode()


def test_a_terminal_gets_the_live_view_and_is_left_with_the_table(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    main, side = pty.openpty()
    with os.fdopen(side, "w") as stream:
        report = open_report(stream)
        report.show(planned("clean"))
        report.show(started("clean"))
        time.sleep(0.4)
        report.show(finished("clean", 1, {}, {}))
        report.show(ended("FINISHED"))
        report.close()
        written = drained(main)
    os.close(main)
    assert isinstance(report, LiveReport)
    assert "✓ built" in written
    assert written.rindex("\x1b[?25h") > written.index("\x1b[?25l")  # the cursor is shown again


def test_an_error_is_printed_in_four_parts():
    stream = io.StringIO()
    print_error(
        ConfigError("no such field", where="stages.base.lr", allowed="a field", do="write it out"), stream
    )
    assert [line.split(":")[0].strip() for line in stream.getvalue().splitlines()] == [
        "error",
        "where",
        "allowed",
        "do",
    ]


NOISY = """
import logging, os, subprocess, sys
from pathlib import Path
from pipeline.report import quiet
print("before")
try:
    with quiet(Path(sys.argv[1]) / "logs" / "run.log") as streams:
        print("python")
        print("complaint", file=sys.stderr)
        os.write(1, b"descriptor\\n")
        subprocess.run([sys.executable, "-c", "print('child')"], check=True)
        print("report", file=streams.out)
        print("warning", file=streams.err)
        raise ValueError
except ValueError:
    print("after")
"""


def test_what_a_run_and_its_children_print_goes_to_the_log_and_the_report_to_the_terminal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NOISY, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["before", "report", "after"]
    assert done.stderr.split() == ["warning"]
    log = (tmp_path / "logs" / "run.log").read_text().split()
    assert sorted(log) == ["child", "complaint", "descriptor", "python"]


def test_quiet_inside_a_process_gives_the_streams_back(tmp_path, capfd):
    with quiet(tmp_path / "run.log"):
        os.write(1, b"hidden\n")
    os.write(1, b"seen\n")
    assert capfd.readouterr().out == "seen\n"
