import numpy as np
import pytest

from dann.datasets.cache import cached

ARRAYS = {"x": np.arange(1000, dtype=np.uint8), "y": np.arange(3)}


def build():
    return {name: array.copy() for name, array in ARRAYS.items()}


def never():
    raise AssertionError("built although it was stored")


def test_what_is_stored_is_not_built_again(home):
    cached("set", "a" * 64, build)
    stored = cached("set", "a" * 64, never)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(stored[name], array)
    assert [path.suffix for path in (home / "cache").iterdir()] == [".npz"]


def test_another_key_is_another_build(home):
    cached("set", "a" * 64, build)
    assert cached("set", "b" * 64, lambda: {"x": np.zeros(1)})["x"].tolist() == [0]


@pytest.mark.parametrize("damage", [lambda c: c[:300], lambda c: b"", lambda c: b"no zip", lambda c: flip(c)])
def test_a_damaged_file_is_built_again_and_replaced(home, damage):
    cached("set", "a" * 64, build)
    (place,) = (home / "cache").iterdir()
    place.write_bytes(damage(place.read_bytes()))
    np.testing.assert_array_equal(cached("set", "a" * 64, build)["x"], ARRAYS["x"])
    np.testing.assert_array_equal(cached("set", "a" * 64, never)["x"], ARRAYS["x"])


def flip(content: bytes) -> bytes:
    """Change one byte inside the first array."""
    at = content.index(bytes(range(50, 60)))
    return content[:at] + b"\xff" + content[at + 1 :]


def test_where_no_folder_can_be_written_the_arrays_come_with_a_warning(tmp_path, monkeypatch):
    import dann.datasets.fetch as fetch_module

    blocked = tmp_path / "a file"
    blocked.write_text("in the folder's place")
    monkeypatch.setenv("DANN_DATA", str(blocked))
    monkeypatch.setattr(fetch_module, "user_cache", lambda: blocked)
    with pytest.warns(UserWarning, match="set could not be stored"):
        arrays = cached("set", "a" * 64, build)
    np.testing.assert_array_equal(arrays["x"], ARRAYS["x"])


def test_a_data_folder_marked_read_only_is_left_alone_even_by_root(home, tmp_path):
    home.mkdir()
    home.chmod(0o555)
    cached("set", "a" * 64, build)
    assert list(home.iterdir()) == []
    assert [path.suffix for path in (tmp_path / "user-cache" / "cache").iterdir()] == [".npz"]
    np.testing.assert_array_equal(cached("set", "a" * 64, never)["x"], ARRAYS["x"])
    home.chmod(0o755)
