"""Kill a run at random moments, run the same command again each time, and compare every byte with a run never killed.

One store is built without a kill. In another, processes are ended with SIGKILL at random moments across the run: the
driver, a stage's worker, a training rank, the local raylet, in turn. What must come out: each command ends by itself,
the last one completes, no artifact is damaged, and every artifact has the bytes of the undisturbed run.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

HEADRACE = Path(sys.executable).with_name("headrace")
LONGEST_RUN_SECONDS = 900
VICTIMS = ("driver", "worker", "rank", "raylet")
RANK_TITLE = "RayTrainWorker"
NOT_WORK = (
    "ray::IDLE",
    "ray::Mailbox",
    "ray::TrainController",
    "ray::RuntimeEnvAgent",
    "ray::DashboardAgent",
)


@dataclass
class Kill:
    victim: str
    title: str
    "What the killed process called itself."
    after_seconds: float
    "From the start of the command."
    exit_code: int
    "Of the command: 0 where it completed all the same."
    run_seconds: float


def main() -> int:
    options = _arguments()
    root = Path(options.folder or tempfile.mkdtemp(prefix="headrace-soak-"))
    root.mkdir(parents=True, exist_ok=True)
    print(f"stores and logs are in {root}", flush=True)
    began = time.monotonic()
    code = _run(root / "calm", options.overrides, root / "calm.txt").wait(LONGEST_RUN_SECONDS)
    calm_seconds = time.monotonic() - began
    if code:
        print((root / "calm.txt").read_text())
        return 1
    print(f"undisturbed: {calm_seconds:.0f} s", flush=True)
    kills = _kill_often(root, options)
    last = _run(root / "killed", options.overrides, root / "last.txt").wait(LONGEST_RUN_SECONDS)
    differing = sorted(_differing(root / "calm", root / "killed"))
    damaged = _damaged(root / "killed")
    facts = {
        "undisturbed_seconds": calm_seconds,
        "kills": [asdict(kill) for kill in kills],
        "last_exit_code": last,
        "differing_artifacts": differing,
        "damaged_files": damaged,
    }
    print(json.dumps(facts))
    good = last == 0 and not differing and not damaged and len(kills) == options.count
    print(
        f"{len(kills)} kills; completed: {last == 0}; artifacts that differ: {differing or 'none'}; "
        f"damaged: {damaged or 'none'}"
    )
    if good and not options.folder:
        shutil.rmtree(root)
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="kills (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the moments and victims (default: %(default)s)"
    )
    parser.add_argument("--longest", type=float, default=30.0, help="seconds of work before a kill, at most")
    parser.add_argument("--folder", help="where to keep stores and logs")
    parser.add_argument("overrides", nargs="*", help="overrides of the recipe, as for `headrace run`")
    return parser.parse_args()


def _kill_often(root: Path, options: argparse.Namespace) -> list[Kill]:
    chance = random.Random(options.seed)
    kills: list[Kill] = []
    for attempt in range(3 * options.count):
        if len(kills) >= options.count:
            break
        found, completed = _one_command(root, options, chance, attempt, len(kills))
        for kill in found:
            kills.append(kill)
            print(
                f"kill {len(kills)}: {kill.victim} ({kill.title.strip()}) after {kill.after_seconds:.1f} s; "
                f"the command ended with {kill.exit_code} after {kill.run_seconds:.1f} s",
                flush=True,
            )
        if completed and len(kills) < options.count:  # what it built is right, or this is where it ends
            if differing := _differing(root / "calm", root / "killed"):
                print(f"artifacts differ: {differing}", flush=True)
                break
            shutil.rmtree(root / "killed")
    return kills


def _one_command(
    root: Path, options: argparse.Namespace, chance: random.Random, attempt: int, num_killed: int
) -> tuple[list[Kill], bool]:
    """Run the command once and strike at random moments until it ends; the kills, and whether it completed."""
    began = time.monotonic()
    driver = _run(root / "killed", options.overrides, root / f"attempt-{attempt:03d}.txt")
    due = began + chance.uniform(0.5, options.longest)
    struck: list[tuple[str, str, float]] = []
    while driver.poll() is None:
        wanted = VICTIMS[(num_killed + len(struck)) % len(VICTIMS)]
        if time.monotonic() >= due and num_killed + len(struck) < options.count:
            title = _strike(driver, wanted, chance)
            if title:
                struck.append((wanted, title, time.monotonic() - began))
                due = time.monotonic() + chance.uniform(1.0, options.longest)
        time.sleep(0.05)
        assert time.monotonic() - began < LONGEST_RUN_SECONDS, "the command hangs"
    seconds = time.monotonic() - began
    return [Kill(*each, driver.returncode, seconds) for each in struck], driver.returncode == 0


def _strike(driver: "subprocess.Popen[bytes]", wanted: str, chance: random.Random) -> str | None:
    """Kill one process of the wanted kind, if there is one at this moment; its title."""
    try:
        process = psutil.Process(driver.pid)
        below = process.children(recursive=True)
        titles = {child: " ".join(child.cmdline())[:60] or child.name() for child in below}
    except psutil.Error:
        return None
    ray_workers = {child: title for child, title in titles.items() if title.startswith("ray::")}
    candidates = {
        "driver": {process: "headrace run"},
        "raylet": {child: "raylet" for child in below if child.name().startswith("raylet")},
        "rank": {child: title for child, title in ray_workers.items() if RANK_TITLE in title},
        "worker": {
            c: t for c, t in ray_workers.items() if not t.startswith(NOT_WORK) and RANK_TITLE not in t
        },
    }[wanted]
    if not candidates:
        return None
    victim, title = chance.choice(sorted(candidates.items(), key=lambda each: each[0].pid))
    try:
        os.kill(victim.pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return title


def _run(store: Path, overrides: list[str], output: Path) -> "subprocess.Popen[bytes]":
    with output.open("wb") as sink:
        return subprocess.Popen(
            [HEADRACE, "run", f"store={store}", *overrides], stdout=sink, stderr=sink, start_new_session=True
        )


def _differing(one: Path, other: Path) -> list[str]:
    """Recipe nodes whose artifacts have other bytes; a registration names a version, so its bytes may differ."""
    digests = [_digests(store) for store in (one, other)]
    return [node for node in digests[0] | digests[1] if digests[0].get(node) != digests[1].get(node)]


def _digests(store: Path) -> dict[str, str]:
    found = {}
    for pointer in (store / "recipes").glob("*/*.json"):
        last = json.loads(pointer.read_text())
        manifest = json.loads(
            (store / "artifacts" / last["stage"] / last["key"] / "manifest.json").read_text()
        )
        if manifest["kind"] != "registration":
            found[pointer.stem] = f"{last['key']} {manifest['digest']}"
    return found


def _damaged(store: Path) -> list[str]:
    """Files of artifacts whose bytes are not those that their manifest gives."""
    from hashlib import file_digest

    bad = []
    for path in (store / "artifacts").glob("*/*/manifest.json"):
        for file in json.loads(path.read_text())["files"]:
            with (path.parent / file["name"]).open("rb") as content:
                if file_digest(content, "sha256").hexdigest() != file["sha256"]:
                    bad.append(str(path.parent / file["name"]))
    return bad


if __name__ == "__main__":
    sys.exit(main())
