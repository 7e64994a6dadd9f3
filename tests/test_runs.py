import errno
import fcntl
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from dann import MLP, DomainAdapter, ModelFileError, runs

EXPLODED = []


def explode():
    EXPLODED.append(True)


class Bomb:
    """An object whose unpickling runs code."""

    def __reduce__(self):
        return explode, ()


@pytest.fixture(autouse=True)
def _nothing_explodes():
    pickle.loads(pickle.dumps(Bomb()))
    assert EXPLODED.pop()
    yield
    assert EXPLODED == []


@pytest.fixture
def model(arrays):
    return DomainAdapter("dann", MLP(hidden=(8,), domain_hidden=(4,)), steps=2, batch_size=8).fit(
        arrays.x, arrays.y, arrays.xt
    )


@pytest.fixture
def file(model, tmp_path):
    return model.save(tmp_path / "model.safetensors")


@pytest.fixture
def rewrite(file):
    """Return a function that writes the model again with another configuration and a matching digest."""
    tensors, config = runs.load_model(file)

    def write(change):
        changed = json.loads(json.dumps(config))
        change(changed)
        text = changed if isinstance(changed, str) else json.dumps(changed)
        return forge(file, tensors, text)

    return write


def forge(file, tensors, text):
    return runs.write(file, save(tensors, metadata={"dann": text, "digest": runs.digest(tensors, text)}))


# files that are whole or absent


@pytest.mark.parametrize(("owner", "failing"), [(os, "replace"), (runs, "open")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(owner, failing, tmp_path, monkeypatch):
    path = runs.write(tmp_path / "history.json", "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(owner, failing, fail, raising=False)
    with pytest.raises(OSError, match="disk full"):
        runs.write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["history.json"]


def test_a_write_makes_the_folders_and_leaves_one_readable_file(tmp_path):
    path = runs.write(tmp_path / "a" / "b" / "c.txt", "content")
    assert path.read_text() == "content"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["c.txt"]


def test_pipes_and_devices_are_written_to_and_not_replaced(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    runs.write(pipe, "content")
    reader.join()
    assert found == ["content"]
    assert pipe.is_fifo()
    runs.write("/dev/null", "content")
    assert Path("/dev/null").is_char_device()


def test_what_stands_for_an_open_file_is_written_to(tmp_path):
    with open(tmp_path / "out", "w") as file:
        name = f"/proc/self/fd/{file.fileno()}"
        if not os.path.exists(name):
            pytest.skip("this system has no /proc")
        assert runs.write(name, "content") == Path(name)
    assert (tmp_path / "out").read_text() == "content"


def test_a_link_to_a_file_is_replaced_and_the_file_stays(tmp_path):
    """A run folder of somebody else's may hold links to anywhere."""
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    runs.write(tmp_path / "link", "content")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "link").read_text() == "content"


def test_a_folder_that_cannot_be_written_to_is_told_by_the_files_own_name(tmp_path, monkeypatch):
    def closed(*_):
        raise PermissionError(13, "Permission denied", ".c.txt.0123")

    monkeypatch.setattr(os, "replace", closed)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*/c.txt'"):
        runs.write(tmp_path / "c.txt", "content")


def test_a_write_never_touches_the_permissions_of_new_files_which_are_those_of_all_threads(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", lambda _: pytest.fail("another thread may make a file now"))
            path = runs.write(tmp_path / "c.txt", "content")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_numpy_values_are_written_as_plain_json(tmp_path):
    path = runs.write_json(tmp_path / "x.json", {"a": np.float32(0.5), "b": np.arange(3), "c": np.int64(7)})
    assert runs.read_json(path) == {"a": 0.5, "b": [0, 1, 2], "c": 7}


def test_nan_becomes_null_for_readers_that_know_no_nan():
    content = {"a": [1.0, float("nan")], "b": (np.float32("inf"), np.array([np.nan, 2.0])), "c": "NaN", "d": 3}
    assert runs.without_nan(content) == {"a": [1.0, None], "b": [None, [None, 2.0]], "c": "NaN", "d": 3}


def test_what_json_does_not_know_is_refused_by_its_type(tmp_path):
    with pytest.raises(TypeError, match="set cannot be written as JSON"):
        runs.write_json(tmp_path / "x.json", {"a": {1}})
    assert not (tmp_path / "x.json").exists()


def test_an_absent_file_is_none(tmp_path):
    assert runs.read_json(tmp_path / "none.json") is None
    assert runs.load_checkpoint(tmp_path / "none.pt") is None


def test_fingerprints_tell_data_types_shapes_and_settings_apart():
    x = np.arange(6.0)
    variants = [(x, {}), (x + 1, {}), (x.reshape(2, 3), {}), (x.astype(np.float32), {}), (x, {"lr": 1})]
    assert len({runs.fingerprint([a], config) for a, config in variants}) == len(variants)
    assert runs.fingerprint([x], {"a": 1, "b": 2}) == runs.fingerprint([x.copy()], {"b": 2, "a": 1})


# model files


def test_a_model_is_one_file_of_numbers_and_json(file, model):
    tensors, config = runs.load_model(file)
    assert tensors.keys() == model.network_.state_dict().keys()
    assert (config["task"], config["labels"]) == ("classification", [0, 1])
    assert os.listdir(file.parent) == [file.name]


def test_a_folder_stands_for_the_model_in_it(file, model, arrays):
    loaded = DomainAdapter.load(file.parent)
    np.testing.assert_array_equal(loaded.predict(arrays.xt), model.predict(arrays.xt))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no model file .*nothing\.safetensors"):
        DomainAdapter.load(tmp_path / "nothing.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is no model file .*model\.safetensors"):
        DomainAdapter.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 8, 200, -1])
def test_a_truncated_file_is_refused(keep, file):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="is truncated or no model file"):
        DomainAdapter.load(file)


def test_every_flipped_byte_is_noticed(file):
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    places = [*rng.integers(8, header, 40), *rng.integers(header, len(whole), 40), len(whole) - 1]
    for place in map(int, places):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ModelFileError):
            DomainAdapter.load(file)


def test_altered_weights_are_said_to_be_altered(file):
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    with pytest.raises(ModelFileError, match=r"was altered after it was written.*get the file again"):
        DomainAdapter.load(file)


@pytest.mark.parametrize("change", [lambda t: t.reshape(-1), lambda t: t.view(torch.int32)])
def test_weights_of_another_shape_or_type_are_said_to_be_altered(change, file):
    """Their bytes are the same."""
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors, _ = runs.load_model(file)
    runs.write(file, save({**tensors, "head.0.weight": change(tensors["head.0.weight"])}, metadata=metadata))
    with pytest.raises(ModelFileError, match="was altered after it was written"):
        runs.load_model(file)


def test_an_altered_configuration_is_said_to_be_altered(file):
    file.write_bytes(file.read_bytes().replace(b'batch_size\\": 8', b'batch_size\\": 9'))
    with pytest.raises(ModelFileError, match="was altered after it was written"):
        DomainAdapter.load(file)


def test_a_file_from_a_newer_dann_says_to_upgrade(rewrite):
    newer = runs.FORMAT + 1
    path = rewrite(lambda c: c.update(format=newer, version="7.0"))
    with pytest.raises(ModelFileError, match=rf"newer dann \(7\.0, file format {newer}\).*upgrade dann"):
        DomainAdapter.load(path)


def test_weights_of_another_program_are_refused(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match=r"was not written by dann.*use DomainAdapter\.save"):
        DomainAdapter.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("write", [
    lambda path: torch.save({"weight": torch.ones(2), "bomb": Bomb()}, path),
    lambda path: path.write_bytes(pickle.dumps(Bomb())),
    lambda path: path.write_text("{}"),
])  # fmt: skip
def test_a_pickle_is_refused_and_not_executed(write, tmp_path):
    write(tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="no model file"):
        DomainAdapter.load(tmp_path / "model.safetensors")


def at(*path):
    """Return a function that makes a change of a configuration: the value at ``path``."""

    def to(value):
        def change(config):
            for key in path[:-1]:
                config = config[key]
            config[path[-1]] = value

        return change

    return to


method, backbone, setting = at("adapter", "method"), at("adapter", "backbone"), lambda name: at("adapter", name)


@pytest.mark.parametrize(
    "change",
    [
        method("evil"),
        method({"name": "evil", "params": {}}),
        method({"name": "os:system", "params": {"command": "true"}}),
        method({"name": "dann", "params": {"evil": 1}}),
        method({"name": "dann", "params": {"hidden": "abc"}}),
        method({"name": "dann", "params": {"hidden": [10**9]}}),
        method({"name": "dann", "params": {"hidden": [10**30]}}),
        method({"name": "dann"}),
        method(7),
        backbone("evil"),
        backbone({"name": "mlp", "params": {"hidden": [10**9, 10**9]}}),
        backbone({"name": "mlp", "params": {"hidden": [8.5]}}),
        backbone({"name": "mlp", "params": {"hidden": []}}),
        backbone({"name": "mlp", "params": {"activation": []}}),
        backbone({"name": "mnist", "params": {}}),
        backbone({"name": None, "params": {}}),
        backbone(None),
        setting("evil")(1),
        setting("encoding")("evil"),
        setting("initialization")("evil"),
        at("adapter")([]),
        at("adapter")(None),
        setting("augmentation")({"name": "evil", "params": {}}),
        setting("augmentation")({"name": "image", "params": {"evil": 1}}),
        setting("strong_augmentation")(7),
        setting("class_weight")([7]),
        at("task")("evil"),
        at("labels")(None),
        at("labels")({}),
        at("labels")([0, 1, 2]),
        at("labels")(list(range(100_000))),
        at("shape")([]),
        at("shape")([10**12]),
        at("shape")([-1]),
        at("shape")("abc"),
        at("n_domains")(10**9),
        at("n_domains")(0),
        at("n_domains")("two"),
        at("dtype")("evil"),
        at("format")("evil"),
        at("format")([]),
        lambda config: config.pop("shape"),
        lambda config: config.pop("adapter"),
        lambda config: config.pop("format"),
    ],
)
def test_a_hostile_configuration_is_a_model_file_error_and_costs_little_memory(change, rewrite):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError):
        DomainAdapter.load(rewrite(change))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", "{", '{"format": Infinity}', '{"format": NaN}', "[" * 100_000, '{"format": 1}']
)
def test_a_configuration_that_is_none_is_a_model_file_error(text, file):
    tensors, _ = runs.load_model(file)
    with pytest.raises(ModelFileError):
        DomainAdapter.load(forge(file, tensors, text))


@pytest.mark.parametrize("change", [
    lambda tensors: tensors.pop("normalize.mean"),
    lambda tensors: tensors.pop("head.0.bias"),
    lambda tensors: tensors.update(evil=torch.ones(1)),
    lambda tensors: tensors.update({"head.0.bias": torch.ones(3)}),
])  # fmt: skip
def test_other_weights_than_the_configuration_needs_are_refused(change, file):
    tensors, config = runs.load_model(file)
    change(tensors)
    with pytest.raises(ModelFileError, match="does not describe a model"):
        DomainAdapter.load(forge(file, tensors, json.dumps(config)))


# checkpoints


def test_a_checkpoint_that_would_run_code_is_refused_and_not_executed(arrays, tmp_path):
    runs.save_checkpoint(tmp_path / "checkpoint.pt", {"fingerprint": "", "step": Bomb()})
    with pytest.raises(ModelFileError, match=r"no readable checkpoint.*delete it to start anew"):
        DomainAdapter(steps=1).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


@pytest.mark.parametrize("content", [{}, [1, 2], torch.ones(3), 7])
def test_a_checkpoint_of_something_else_is_refused(content, tmp_path):
    runs.save_checkpoint(tmp_path / "checkpoint.pt", content)
    with pytest.raises(ModelFileError, match="no readable checkpoint"):
        runs.load_checkpoint(tmp_path / "checkpoint.pt")


def test_a_truncated_checkpoint_is_refused(arrays, tmp_path):
    settings = {"backbone": MLP(hidden=(4,)), "steps": 2, "batch_size": 4}
    DomainAdapter(**settings).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="delete it to start anew"):
        DomainAdapter(**settings).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


def test_an_altered_checkpoint_is_refused(arrays, tmp_path):
    settings = {"backbone": MLP(hidden=(4,)), "steps": 2, "batch_size": 4}
    DomainAdapter(**settings).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for place in (0, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ModelFileError, match="it was altered"):
            DomainAdapter(**settings).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


@pytest.mark.parametrize("content", ["5", "[1]"])
def test_a_configuration_of_something_else_is_refused(content, arrays, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="is of no training and would be replaced"):
        DomainAdapter(steps=1, random_state=None).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    assert (tmp_path / "config.json").read_text() == content


def test_a_pipe_is_no_lock(tmp_path):
    os.mkfifo(tmp_path / ".dann-lock")
    with pytest.raises(OSError, match="dann-lock"), runs.alone(tmp_path):  # and does not wait for a reader
        pass


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "temporary")

    monkeypatch.setattr("dann.runs.os.replace", full)
    with pytest.raises(OSError, match=r"No space left on device: .*model'$"):
        runs.write(tmp_path / "model", b"1")
    assert os.listdir(tmp_path) == []


def test_the_longest_names_can_be_written(tmp_path):
    assert runs.write(tmp_path / ("n" * 255), b"1").read_bytes() == b"1"


def test_a_run_folder_is_for_one_process_at_a_time(tmp_path):
    folder = tmp_path / "runs" / "one"
    with runs.alone(folder):
        code = f"import dann.runs; dann.runs.alone({str(folder)!r}).__enter__()"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        with pytest.raises(ValueError, match="is the run folder of another dann that is running"), runs.alone(folder):
            pass
        with runs.alone(tmp_path / "runs" / "two"):
            pass
    assert f"ValueError: {folder} is the run folder of another dann" in other.stderr
    assert os.listdir(tmp_path) == []
    with runs.alone(folder):
        (folder / "model").write_text("kept")
    assert os.listdir(folder) == ["model"]


def test_what_a_killed_process_held_is_free(tmp_path):
    code = f"import os, dann.runs; held = dann.runs.alone({str(tmp_path)!r}); held.__enter__(); os._exit(1)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert os.listdir(tmp_path) == [".dann-lock"]
    with runs.alone(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_an_error_leaves_no_lock_and_no_empty_folder(tmp_path):
    with pytest.raises(KeyError), runs.alone(tmp_path / "a" / "b"):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_lock_that_its_owner_deleted_in_between_is_none(tmp_path, monkeypatch):
    def late(file, flags):
        (tmp_path / ".dann-lock").unlink()
        return flock(file, flags)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ValueError, match="another dann that is running"), runs.alone(tmp_path):
        pass


def test_folders_without_locks_and_lost_locks_are_no_trouble(tmp_path, monkeypatch):
    def none(file, flags):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with runs.alone(tmp_path):
        (tmp_path / ".dann-lock").unlink()
    assert os.listdir(tmp_path) == []


def test_a_lock_that_links_elsewhere_is_not_followed(tmp_path):
    (tmp_path / ".dann-lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), runs.alone(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file and cannot be the run folder"), runs.alone(tmp_path / "file"):
        pass


def test_the_same_model_is_the_same_bytes(tmp_path):
    """The library writes metadata in any order."""
    tensors, config = {"b": torch.ones(3), "a": torch.zeros(2, 2)}, {"version": "1", "shape": [2]}
    contents = {runs.save_model(tmp_path / f"{k}.safetensors", tensors, config).read_bytes() for k in range(20)}
    assert len(contents) == 1
    loaded, _ = runs.load_model(tmp_path / "0.safetensors")
    assert all(torch.equal(loaded[name], values) for name, values in tensors.items())
