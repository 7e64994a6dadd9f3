import gzip
import struct

import numpy as np
import pytest

from dann.datasets import load_mnist, read_idx


def test_compressed_and_plain_files_are_read_alike(tmp_path, write_idx):
    array = np.random.default_rng(0).integers(256, size=(5, 4, 3), dtype=np.uint8)
    for compress in (True, False):
        read = read_idx(write_idx(tmp_path / "file", array, compress))
        np.testing.assert_array_equal(read, array)
        assert read.flags.writeable


@pytest.mark.parametrize("compress", [True, False])
def test_a_file_that_is_cut_off_is_an_error(tmp_path, compress, write_idx):
    path = write_idx(tmp_path / "file", np.random.default_rng(0).integers(256, size=(50, 4), dtype=np.uint8), compress)
    for length in (len(path.read_bytes()) - 3, 6, 3):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"file .*(damaged|cut off|holds only|not an IDX)"):
            read_idx(path)


def test_a_file_of_another_kind_is_an_error_that_shows_its_start(tmp_path):
    (tmp_path / "file").write_bytes(struct.pack(">2xBBI", 0x0D, 1, 1) + b"\0\0\0\0")
    with pytest.raises(ValueError, match="starts with 00 00 0d 01"):
        read_idx(tmp_path / "file")


def test_a_header_that_declares_more_than_a_gigabyte_is_refused(tmp_path):
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 2**31)
    (tmp_path / "file").write_bytes(gzip.compress(header))
    with pytest.raises(ValueError, match="more than the 1073741824 that are read"):
        read_idx(tmp_path / "file")


def test_no_more_than_the_declared_size_is_unpacked(tmp_path):
    import tracemalloc

    bomb = bytes([0, 0, 8, 1]) + struct.pack(">I", 10) + bytes(64 * 2**20)
    (tmp_path / "file").write_bytes(gzip.compress(bomb, 1))
    del bomb
    tracemalloc.start()
    with pytest.raises(ValueError, match="declares 10 bytes but holds more"):
        read_idx(tmp_path / "file")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_the_plain_file_is_found_where_the_compressed_one_is_missing(small_mnist):
    place = small_mnist / "mnist" / "t10k-images-idx3-ubyte.gz"
    first = load_mnist()[1]
    place.with_suffix("").write_bytes(gzip.decompress(place.read_bytes()))
    place.unlink()
    np.testing.assert_array_equal(load_mnist()[1].x, first.x)


def test_images_and_labels_of_unequal_number_are_an_error(small_mnist, write_idx):
    write_idx(small_mnist / "mnist" / "train-labels-idx1-ubyte.gz", np.zeros(7, np.uint8))
    with pytest.raises(ValueError, match=r"do not fit together: images \(240, 28, 28\), labels \(7,\)"):
        load_mnist()


def test_real_mnist_has_its_known_counts_and_mean(real_mnist):
    train, test = load_mnist()
    assert train.x.shape == (60_000, 28, 28)
    assert test.x.shape == (10_000, 28, 28)
    assert np.bincount(train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.x.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
