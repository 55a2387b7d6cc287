import multiprocessing
import os
import signal
import threading
import time

from pipeline.dag import lock as lock_module
from pipeline.dag.folder import open_folder
from pipeline.dag.lock import Lock
from pipeline.dag.process import ProcessId


def test_many_threads_never_hold_it_together(tmp_path):
    claims, inside, most, turns = open_folder(str(tmp_path)), [], [], []

    def work():
        for _ in range(3):
            with Lock(claims).held():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()
                turns.append(1)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(turns) == 15
    assert claims.files() == []


def _hold_for_ever(path, held):
    with Lock(open_folder(path)).held():
        held.set()
        time.sleep(600)


def test_a_killed_holder_blocks_nobody_for_long(tmp_path):
    held = multiprocessing.get_context("spawn").Event()
    holder = multiprocessing.get_context("spawn").Process(target=_hold_for_ever, args=(str(tmp_path), held))
    holder.start()
    assert held.wait(30)
    waited_for = []
    threading.Timer(0.5, os.kill, (holder.pid, signal.SIGKILL)).start()
    began = time.monotonic()
    with Lock(open_folder(str(tmp_path))).held(on_wait=waited_for.append):
        assert time.monotonic() - began < 10
    holder.join()
    assert waited_for[0].pid == holder.pid


def test_a_silent_holder_on_another_host_is_given_up_by_our_own_clock(tmp_path, monkeypatch):
    claims = open_folder(str(tmp_path))
    claims.write_json(
        "other.json",
        {"ticket": 1, "choosing": False, "beat": 1, "process": "elsewhere 1 0.00"},
    )
    monkeypatch.setattr(lock_module, "DEAD_AFTER_SECONDS", 0.6)
    began = time.monotonic()
    with Lock(claims).held():
        assert time.monotonic() - began >= 0.6


def test_a_beating_holder_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "DEAD_AFTER_SECONDS", 0.6)
    monkeypatch.setattr(lock_module, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(ProcessId, "is_gone", lambda _: False)
    order = []

    def first():
        with Lock(open_folder(str(tmp_path))).held():
            started.set()
            time.sleep(1.5)
            order.append("first")

    started = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    started.wait(10)
    with Lock(open_folder(str(tmp_path))).held():
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
