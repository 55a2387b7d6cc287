import os

from pipeline.dag.collect import find_garbage, reachable


def test_what_a_recipe_reaches_is_kept_and_the_rest_is_garbage(toy):
    first = toy.build()
    toy.stages["loud"].suffix = "!"
    second = toy.build()
    garbage = find_garbage(toy.store, keep_runs=0, keep_work_days=7)
    assert {each.key for each in garbage} == {first["loud"].manifest.key, first["joined"].manifest.key}
    kept = {artifact.manifest.key for artifact in second.values()}
    assert not kept & {each.key for each in garbage}


def test_what_a_recent_run_used_is_kept_with_all_above_it(toy):
    first = toy.build()
    nodes = {"joined": {"stage": "join", "key": first["joined"].manifest.key}}
    toy.store.root.write_json("runs/20260101-000000-1.json", {"nodes": nodes})
    toy.stages["loud"].suffix = "!"
    toy.build()
    assert find_garbage(toy.store, keep_runs=1, keep_work_days=7) == []
    assert reachable(toy.store, [("join", first["joined"].manifest.key)]) == {
        (artifact.manifest.stage, artifact.manifest.key) for artifact in first.values()
    }


def test_old_unfinished_work_is_garbage_unless_it_is_claimed(toy):
    toy.build()
    work = toy.store.work_folder("upper", "a" * 32)
    work.write_bytes("output/half.txt", b"half")
    assert find_garbage(toy.store, keep_runs=0, keep_work_days=7) == []
    os.utime(work.at("output/half.txt"), (0, 0))
    (found,) = find_garbage(toy.store, keep_runs=0, keep_work_days=7)
    assert (found.kind, found.key) == ("work", "a" * 32)
    toy.store.root.write_json(f"locks/upper/{'a' * 32}/someone.json", {})
    assert find_garbage(toy.store, keep_runs=0, keep_work_days=7) == []
