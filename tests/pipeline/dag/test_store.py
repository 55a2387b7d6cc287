import pytest

from pipeline.dag.folder import open_folder
from pipeline.dag.store import Manifest, ManifestFile, Store
from pipeline.errors import ConfigError, InputDataError


def manifest_of(store, key="k" * 32):
    output = store.work_folder("upper", key).child("output")
    files = [ManifestFile(entry.name, entry.size, output.digest(entry.name)) for entry in output.files()]
    return Manifest("upper", key, "lines", "loud", {"config": {}}, {}, files)


def fill(store, key="k" * 32):
    output = store.work_folder("upper", key).child("output")
    output.write_bytes("train/a.txt", b"alpha")
    output.write_bytes("test/b.txt", b"beta")
    output.write_bytes("logs/time.txt", b"now")
    return manifest_of(store, key)


def test_a_committed_artifact_is_found_with_its_bytes_and_its_work_is_gone(store):
    manifest = fill(store)
    assert store.find("upper", manifest.key) is None
    store.commit(manifest)
    found = store.find("upper", manifest.key)
    assert found.manifest == manifest
    assert found.folder.read_bytes("train/a.txt") == b"alpha"
    assert found.manifest.parts() == ["test", "train"]
    assert not store.work_folder("upper", manifest.key).files()
    assert [each.manifest.key for each in store.artifacts()] == [manifest.key]


def test_a_commit_killed_at_any_step_is_completed(store, monkeypatch):
    """Each file operation of the commit is made to fail in turn, as if the process had died there."""
    kind = type(store.root)
    for step in range(1, 6):
        key = f"{step:032x}"
        manifest = fill(store, key)
        calls = {"left": step}

        def dying(original, *, left=calls):
            def call(*arguments, **options):
                left["left"] -= 1
                if left["left"] < 0:
                    raise KeyboardInterrupt
                return original(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("move_file", "write_bytes", "delete"):
                patch.setattr(kind, name, dying(getattr(kind, name)))
            with pytest.raises(KeyboardInterrupt):
                store.commit(manifest)
        finished = (
            store.recover("upper", key) or store.find("upper", key) or store.commit(manifest_of(store, key))
        )
        assert finished.manifest.digest == manifest.digest
        assert {e.name for e in finished.folder.files()} == {
            "train/a.txt",
            "test/b.txt",
            "logs/time.txt",
            "manifest.json",
        }
        assert store.recover("upper", key) is None


def test_a_block_that_fails_leaves_no_file(store):
    folder = store.root.child("some")

    def write_half() -> None:
        with folder.writing("file") as sink:
            sink.write(b"half a file")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    assert folder.files() == []
    assert not folder.exists("file")


def test_a_remote_folder_is_read_through_a_local_copy(store):
    store.root.write_bytes("some/deep/file", b"content")
    assert (store.root.child("some").local() / "deep/file").read_bytes() == b"content"


def test_logs_are_kept_but_are_not_content(tmp_path):
    store = Store(str(tmp_path))
    before = fill(store).digest
    store.work_folder("upper", "k" * 32).child("output").write_bytes("logs/time.txt", b"later")
    assert manifest_of(store).digest == before
    store.work_folder("upper", "k" * 32).child("output").write_bytes("test/b.txt", b"changed")
    assert manifest_of(store).digest != before
    assert manifest_of(store).part_digest("train") == fill(store, "j" * 32).part_digest("train")


def test_a_broken_manifest_is_an_error_that_names_the_file(tmp_path):
    store = Store(str(tmp_path))
    store.commit(fill(store))
    (tmp_path / "artifacts/upper" / ("k" * 32) / "manifest.json").write_text("{")
    with pytest.raises(InputDataError) as caught:
        store.find("upper", "k" * 32)
    assert "manifest.json" in caught.value.where


def test_a_store_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written: .* is a file"):
        Store(str(tmp_path / "file" / "store"))


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ConfigError) as caught:
        open_folder("ftp://host/path")
    assert "s3://" in caught.value.allowed
