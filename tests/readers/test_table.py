import io
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest

import dann.readers.table as table_module
from dann import DomainAdapter
from dann.readers import Table, check_cells, in_numbers, read_table


@pytest.fixture
def text(tmp_path):
    """Return a function that writes a text file."""

    def write(content, name="rows.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content.encode(encoding))
        return path

    return write


@pytest.fixture
def arrays_file(tmp_path):
    """Return a function that writes an .npz file."""

    def write(name="rows.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [([("a", "|S0"), ("label", "|S0")], (10**12,)), ("<U0", (10**12, 4)), ("|V0", (10**12,)), ("<f8", (10**12, 0))],
)
def test_values_without_a_size_are_refused_however_many_there_are(dtype, shape, tmp_path):
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    with open(tmp_path / "rows.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ValueError, match=r"rows\.npy is no readable array: its values have no size"):
        read_table(tmp_path / "rows.npy")
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        archive.write(tmp_path / "rows.npy", "X.npy")
    with pytest.raises(ValueError, match=r"rows\.npz \(X\) is no readable array: its values have no size"):
        read_table(tmp_path / "rows.npz")


@pytest.mark.parametrize("header", ["{'descr': '<f8', 'fortran_order': (", "{[]: 1}", "{'descr': 7}", "\0", "1" * 99])
def test_damaged_headers_are_no_arrays(header, tmp_path):
    text = header.encode().ljust(117) + b"\n"
    (tmp_path / "rows.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(80))
    with pytest.raises(ValueError, match="is no readable array"):
        read_table(tmp_path / "rows.npy")


def test_damage_in_any_kind_of_archive_is_told(tmp_path):
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(40, 3)))
        with zipfile.ZipFile(tmp_path / "rows.npz", "w", kind) as archive:
            archive.write(tmp_path / "X.npy", "X.npy")
        whole = (tmp_path / "rows.npz").read_bytes()
        for place in range(30, 400, 9):
            (tmp_path / "rows.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
            with pytest.raises(ValueError, match=r"rows\.npz"):
                read_table(tmp_path / "rows.npz")


def test_records_need_rows(tmp_path):
    kind = [("a", "f8"), ("label", "U3")]
    np.save(tmp_path / "one.npy", np.array((1.0, "x"), dtype=kind))
    with pytest.raises(ValueError, match=r"has shape \(\); expected one record for each row"):
        read_table(tmp_path / "one.npy")
    np.save(tmp_path / "none.npy", np.empty(0, dtype=kind))
    assert len(read_table(tmp_path / "none.npy")) == 0


def test_infinite_labels_stay_what_they_are(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([[1.0, 0.0], [2.0, np.inf]]))
    assert read_table(tmp_path / "rows.npy", "1").y.tolist() == [0.0, np.inf]


def test_labels_of_many_digits_are_names(text):
    assert read_table(text(f"a,label\n1,{'9' * 5000}\n2,1\n")).y.tolist() == ["9" * 5000, "1"]


def test_names_that_steer_a_terminal_are_refused(text):
    with pytest.raises(ValueError, match=r"name holds control characters, '\\x1b\[31mred'"):
        read_table(text("a,\x1b[31mred\n1,2\n"))


# CSV


def test_row_numbers_as_pandas_writes_them_are_no_feature(tmp_path):
    pd.DataFrame({"a": [1.5, 2.5], "label": ["x", "y"]}, index=[7, 8]).to_csv(tmp_path / "rows.csv")
    table = read_table(tmp_path / "rows.csv")
    assert table.columns == ["a"]
    assert table.x.tolist() == [["1.5"], ["2.5"]]
    assert table.y.tolist() == ["x", "y"]


def test_a_csv_file_gives_features_names_and_labels(text):
    table = read_table(text("a,label,b\n1,cat,2\n3,dog,4.5\n"))
    np.testing.assert_array_equal(np.asarray(table, dtype=float), [[1, 2], [3, 4.5]])
    assert table.columns == ["a", "b"]
    assert table.y.tolist() == ["cat", "dog"]
    assert len(table) == 2


def test_the_label_column_is_the_one_that_was_named_or_label_or_y(text):
    both = text("y,label,kind,a\n1,2,3,4\n5,6,7,8\n")
    assert read_table(both).y.tolist() == [2, 6]
    assert read_table(both, "kind").y.tolist() == [3, 7]
    assert read_table(both, "kind").columns == ["y", "label", "a"]
    assert read_table(text("y,a\n1,4\n5,8\n")).y.tolist() == [1, 5]


def test_spreadsheets_mark_quotes_blank_lines_and_spaces_are_understood(text):
    table = read_table(text('\ufeffa, label \r\n 1.5 ," big, old "\r\n\r\n2,new\r\n'))
    assert table.columns == ["a"]
    assert np.asarray(table, dtype=float).tolist() == [[1.5], [2.0]]
    assert table.y.tolist() == ["big, old", "new"]


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        (["3", "-1", "0"], [3, -1, 0]),
        (["1.0", "2.0", "1.0"], [1.0, 2.0, 1.0]),
        (["007", "8", "9"], ["007", "8", "9"]),
        (["1", "2", "x"], ["1", "2", "x"]),
        (["1e3", "2", "3"], ["1e3", "2", "3"]),
    ],
)
def test_labels_are_numbers_only_where_all_of_them_are(labels, read, text):
    y = read_table(text("a,label\n" + "".join(f"0,{label}\n" for label in labels))).y
    assert y.tolist() == read
    assert y.dtype != object


@pytest.mark.parametrize(("labels", "read"), [(["5", "", "6"], [5, None, 6]), (["x", " ", "y"], ["x", None, "y"])])
def test_empty_labels_are_missing_and_do_not_change_the_others(labels, read, text):
    table = read_table(text("a,label\n" + "".join(f"0,{label}\n" for label in labels)))
    assert table.y.tolist() == read
    assert table.labelled.tolist() == [True, False, True]


def test_an_empty_cell_is_a_missing_value_that_the_door_reports(text):
    table = read_table(text("a,b,label\n1,2,0\n3,,1\n"))
    with pytest.raises(ValueError, match=r"NaN or infinite \(as float32\), the first in row 1, column 'b'"):
        DomainAdapter().fit(table, table.y, table)


@pytest.mark.parametrize(
    ("content", "because"),
    [
        ("", "is empty; expected a header line"),
        ("\n\n", "is empty; expected a header line"),
        ("a,b,a\n1,2,3\n", "two columns named 'a'"),
        (" \n1\n", "has no feature columns"),
        ("a,,label\n1,2,3\n", "a column without a name behind 'a'; name it"),
        ("a,b\n1,2\n\n3\n", "line 4: 1 cells where the header has 2"),
        ('a,b\n"1\n2",2\n3,4,5\n', "line 4: 3 cells where the header has 2"),
        ("label\n1\n2\n", "no feature columns beside the label 'label'"),
    ],
)
def test_a_damaged_table_is_told_what_is_wrong_and_where(content, because, text):
    with pytest.raises(ValueError, match=because):
        read_table(text(content))


def test_a_file_that_is_no_text_is_no_table(text, tmp_path):
    with pytest.raises(ValueError, match=r"rows.csv is no UTF-8 text \(.*0xfc.*\): save it as UTF-8"):
        read_table(text("a,label\nü,1\n", encoding="latin-1"))
    (tmp_path / "long.csv").write_text("a,label\n" + "1" * 200_000 + ",1\n")
    with pytest.raises(ValueError, match="no readable CSV file: field larger"):
        read_table(tmp_path / "long.csv")


def test_a_file_without_labels_is_an_error_only_where_they_are_needed(text):
    path = text("a,b\n1,2\n")
    assert read_table(path).y is None
    assert read_table(path).labelled.tolist() == [False]
    with pytest.raises(
        ValueError, match=r"no labels: looked for 'label' or 'y'; name the label column; its columns: a, b"
    ):
        read_table(path, needs_label=True)
    with pytest.raises(ValueError, match="looked for 'kind'"):
        read_table(path, "kind", needs_label=True)


# arrays


def test_an_npz_file_has_features_under_x_and_labels_beside_them(arrays_file):
    images, y = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3), np.array([4, 5])
    table = read_table(arrays_file(X=images, y=y, extra=np.zeros(3)))
    np.testing.assert_array_equal(table.x, images)
    assert table.x.dtype == np.uint8
    np.testing.assert_array_equal(table.y, y)
    assert table.columns is None


def test_the_label_array_of_an_npz_file_can_be_named(arrays_file):
    path = arrays_file(X=np.zeros((2, 3)), y=np.array([0, 1]), kind=np.array(["cat", "dog"]))
    assert read_table(path, "kind").y.tolist() == ["cat", "dog"]


def test_the_only_array_beside_the_labels_is_the_features(arrays_file):
    path = arrays_file(data=np.ones((2, 3)), label=np.array([0, 1]))
    np.testing.assert_array_equal(read_table(path).x, np.ones((2, 3)))
    assert read_table(path).y.tolist() == [0, 1]
    with pytest.raises(ValueError, match="features in an array named X; it has: one, two"):
        read_table(arrays_file(one=np.zeros(2), two=np.zeros(2)))


def test_labels_in_bytes_are_text(arrays_file, tmp_path):
    assert read_table(arrays_file(X=np.zeros((2, 1)), y=np.array([b"cat", b"dog"]))).y.tolist() == ["cat", "dog"]
    np.save(tmp_path / "rows.npy", np.array([(1.0, b"cat"), (2.0, b"dog")], dtype=[("a", "f4"), ("label", "S3")]))
    assert read_table(tmp_path / "rows.npy").y.tolist() == ["cat", "dog"]


def test_there_is_one_label_a_row(arrays_file):
    with pytest.raises(ValueError, match=r"y has shape \(3,\); expected one label for each row of \(2, 1\)"):
        read_table(arrays_file(X=np.zeros((2, 1)), y=np.zeros(3)))
    with pytest.raises(ValueError, match=r"y has shape \(\)"):
        read_table(arrays_file(X=np.zeros((2, 1)), y=np.array(1)))


def test_a_structured_array_is_a_table(tmp_path):
    rows = np.array([(1.5, 2, 7), (3.5, 4, 8)], dtype=[("a", "f8"), ("b", "i4"), ("y", "i8")])
    np.save(tmp_path / "rows.npy", rows)
    table = read_table(tmp_path / "rows.npy")
    assert table.columns == ["a", "b"]
    np.testing.assert_array_equal(np.asarray(table, dtype=float), [[1.5, 2], [3.5, 4]])
    assert table.y.tolist() == [7, 8]


def test_a_label_that_is_nan_is_missing(tmp_path):
    rows = np.array([(1.5, 2.0), (3.5, np.nan)], dtype=[("a", "f8"), ("y", "f8")])
    np.save(tmp_path / "rows.npy", rows)
    assert read_table(tmp_path / "rows.npy").labelled.tolist() == [True, False]


def test_fields_that_are_arrays_themselves_are_refused(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros(2, dtype=[("a", "f8", (2,)), ("y", "i8")]))
    with pytest.raises(ValueError, match="fields that are no plain numbers or text"):
        read_table(tmp_path / "rows.npy")


def test_a_plain_array_has_its_labels_in_a_numbered_column(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.array([[1.5, 0.0, 2.5], [3.5, 1.0, 4.5]]))
    table = read_table(path, "1")
    np.testing.assert_array_equal(table.x, [[1.5, 2.5], [3.5, 4.5]])
    assert table.y.tolist() == [0, 1]
    assert table.y.dtype == np.int64  # as they are written in predictions
    assert read_table(path).x.shape == (2, 3)
    assert read_table(path, "0", width=3).y is None  # a target that has no labels
    with pytest.raises(ValueError, match="has no labels: looked for '0'"):
        read_table(path, "0", width=3, needs_label=True)
    assert read_table(path, "0", width=2).y.tolist() == [1.5, 3.5]
    for label in ("kind", "7"):
        with pytest.raises(ValueError, match=rf"shape \(2, 3\).*by its number \(got '{label}'\)"):
            read_table(path, label)


# what is refused


@pytest.mark.parametrize("name", ["rows.txt", "rows.parquet", "rows.npz.gz", "rows"])
def test_other_kinds_of_files_are_refused_by_name(name, text):
    with pytest.raises(ValueError, match=r"none of the kinds that can be read: \.csv, \.npy, \.npz"):
        read_table(text("a,b\n", name))


def test_a_folder_is_told_to_become_a_file(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"is a folder, and a file is read: \.csv, \.npy, \.npz; docs/data\.md"):
        read_table(tmp_path)


def test_capital_letters_in_the_suffix_are_the_same_kind(text):
    assert read_table(text("a,b\n1,2\n", "ROWS.CSV")).columns == ["a", "b"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.npy", "rows.npz"])
def test_a_missing_file_is_file_not_found(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no file .*{name}"):
        read_table(tmp_path / name)


@pytest.mark.parametrize("cut", [0, 5, 60, -1])
@pytest.mark.parametrize("name", ["rows.npy", "rows.npz"])
def test_a_truncated_array_is_told_so(name, cut, tmp_path):
    path = tmp_path / name
    (np.save if name.endswith("npy") else np.savez)(path, np.arange(12.0).reshape(4, 3))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=f"{name}.* is no readable"):
        read_table(path)


def test_every_flipped_byte_of_an_archive_is_an_error_or_does_not_matter(tmp_path):
    path = tmp_path / "rows.npz"
    np.savez_compressed(path, X=np.arange(12.0).reshape(4, 3), y=np.arange(4))
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            table = read_table(path)
        except ValueError:
            continue
        assert len(table) == 4


def test_an_array_that_declares_more_than_it_holds_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)})
    (tmp_path / "rows.npy").write_bytes(buffer.getvalue() + struct.pack("<d", 1.0))
    with pytest.raises(ValueError, match="no readable array"):
        read_table(tmp_path / "rows.npy")
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        archive.writestr("X.npy", buffer.getvalue() + struct.pack("<d", 1.0))
    with pytest.raises(ValueError, match="no readable array"):
        read_table(tmp_path / "rows.npz")


def test_an_archive_that_unpacks_to_too_much_is_refused(arrays_file, monkeypatch):
    path = arrays_file(X=np.zeros((100, 3)), y=np.zeros(100))
    monkeypatch.setattr(table_module, "MAX_BYTES", 3000)
    with pytest.raises(ValueError, match=r"would unpack to \d+ bytes, more than 3000"):
        read_table(path)


# rows


def test_rows_and_columns_are_chosen_like_those_of_a_frame():
    table = Table(np.arange(12).reshape(4, 3), np.array([0, 1, 0, 1]), ["a", "b", "c"])
    part = table[np.array([3, 0])]
    np.testing.assert_array_equal(part.x, [[9, 10, 11], [0, 1, 2]])
    assert part.y.tolist() == [1, 0]
    assert table[table.y == 1].x[:, 0].tolist() == [3, 9]
    assert table[:2].columns == ["a", "b", "c"]
    turned = table[["c", "a"]]
    np.testing.assert_array_equal(turned.x, table.x[:, [2, 0]])
    assert turned.columns == ["c", "a"]


def test_an_array_of_a_table_is_a_copy_where_numpy_was_asked_for_one():
    table = Table(np.zeros((2, 2)))
    assert np.asarray(table) is table.x
    assert np.asarray(table, dtype=np.float64) is table.x
    np.array(table)[:] = 1
    assert not table.x.any()
    with pytest.raises(ValueError, match="copy"):
        np.asarray(table, dtype=np.float32, copy=False)


@pytest.mark.parametrize("missing", [None, float("nan"), ""])
def test_rows_know_whether_they_are_labelled(missing):
    y = np.array([0, missing, 1], dtype=object)
    assert Table(np.zeros((3, 1)), y).labelled.tolist() == [True, False, True]
    assert Table(np.zeros((3, 1))).labelled.tolist() == [False] * 3


def test_features_that_are_called_like_labels_stay_features(tmp_path):
    file = tmp_path / "walk.csv"
    file.write_text("x,y,z\n1,2,3\n4,5,6\n")
    assert read_table(file).columns == ["x", "z"]
    table = read_table(file, features=["x", "y", "z"])
    assert table.columns == ["x", "y", "z"]
    assert table.y is None
    file.write_text("x,y,z,label\n1,2,3,a\n4,5,6,b\n")
    assert read_table(file, features=["x", "y", "z"]).y.tolist() == ["a", "b"]


def test_columns_that_are_not_known_stand_beside_if_all_that_are_known_are_there(text, tmp_path):
    path = text("id,b,a,kind,label\n7,1,2,x,cat\n")
    known = {"features": ["a", "b"], "known_alone": True}
    table = read_table(path, **known)
    assert table.columns == ["b", "a"]
    assert {name: values.tolist() for name, values in table.beside.items()} == {"id": ["7"], "kind": ["x"]}
    assert table.y.tolist() == ["cat"]
    assert list(read_table(path, "kind", drop=["id"], **known).beside) == ["id", "label"]
    assert read_table(path, features=["a", "b"]).columns == ["id", "b", "a", "kind"]
    assert read_table(path, features=["a", "c"], known_alone=True).columns == ["id", "b", "a", "kind"]
    np.save(tmp_path / "rows.npy", np.array([(1.5, 2.0, 7)], dtype=[("a", "f8"), ("b", "f8"), ("id", "i8")]))
    assert read_table(tmp_path / "rows.npy", **known).columns == ["a", "b"]


def test_cells_that_are_no_numbers_are_named_by_the_line_where_their_row_ends(text):
    good = read_table(text("a,b\n1,2\n"))
    check_cells({"good.csv": good})
    table = read_table(text('a,b\n\n1,"x\ny"\nNA,2\n,3\n'))
    assert table.lines == [4, 5, 6]
    because = (
        r"^bad.csv has text in b \('x\\ny', line 4\); bad.csv has missing values in a \(2, first in line 5\)\. Features"
    )
    with pytest.raises(ValueError, match=because):
        check_cells({"good.csv": good, "bad.csv": table})


def test_labels_are_text_where_the_sources_are(tmp_path):
    file = tmp_path / "grades.csv"
    file.write_text("x,label\n1,1\n2,2\n3,\n")
    assert read_table(file).y.tolist() == [1, 2, None]
    assert read_table(file, classes=np.array(["1", "2", "3+"])).y.tolist() == ["1", "2", None]
    assert read_table(file, classes=np.array([1, 2, 3])).y.tolist() == [1, 2, None]
    file.write_text("x,label\n1,1.10\n2,1.1\n3,-1\n")
    versions = np.array(["1.1", "1.10", "v2"])
    assert read_table(file, classes=versions).y.tolist() == ["1.10", "1.1", None]  # -1: not known
    assert read_table(file, classes=np.array(["1.1", "1.10", "-1", "a"])).y.tolist() == ["1.10", "1.1", "-1"]
    np.savez(tmp_path / "g.npz", X=np.zeros((2, 2)), y=np.array([-1, 1]))
    assert read_table(tmp_path / "g.npz", classes=np.array(["1", "2+"])).y.tolist() == [None, "1"]


@pytest.mark.parametrize("text", ["NA", "nan", "NaN", "N/A", "<NA>", "NULL"])
def test_what_stands_for_no_label_is_none(tmp_path, text):
    file = tmp_path / "r.csv"
    file.write_text(f"x,label\n1,a\n2,{text}\n3,None\n")
    assert read_table(file).y.tolist() == ["a", None, "None"]


@pytest.mark.parametrize(("mark", "name"), [(";", "';'"), ("\t", "tabs")])
def test_cells_that_are_not_between_commas_are_told(mark, name, text):
    with pytest.raises(ValueError, match=f"has {name} between its cells; write it with commas"):
        read_table(text(f"a{mark}b{mark}label\n1{mark}2{mark}x\n"))


def test_what_other_programs_write_for_no_value_is_missing(text):
    table = read_table(text("a,b,label\nNA,1,x\n2,NULL,y\n3, NA,x\n4, ,y\n"))  # some put a space behind commas
    assert table.x.tolist() == [["nan", "1"], ["2", "nan"], ["3", "nan"], ["4", "nan"]]


def test_labels_as_bytes_are_text_of_utf_8(arrays_file):
    y = np.array(["Süd".encode(), b"Nord"])
    assert read_table(arrays_file(X=np.eye(2), y=y)).y.tolist() == ["Süd", "Nord"]
    with pytest.raises(ValueError, match=r"text is no UTF-8: .*; store it as text"):
        read_table(arrays_file(X=np.eye(2), y=np.array([b"S\xfcd", b"Nord"])))


def test_an_archive_under_another_name_is_no_array(arrays_file):
    path = arrays_file(X=np.eye(2))
    with pytest.raises(ValueError, match="is no readable array: it is an archive"):
        read_table(path.rename(path.with_suffix(".npy")))


def test_text_that_numpy_would_pickle_is_told_how_to_be_stored(tmp_path):
    np.savez(tmp_path / "rows.npz", X=np.zeros((2, 3)), y=np.array(["cat", "dog"], dtype=object))
    with pytest.raises(
        ValueError, match=r"rows.npz \(y\) is no readable array.*save text as np.asarray\(values, dtype='U'\)"
    ):
        read_table(tmp_path / "rows.npz")


def test_cells_that_have_been_checked_are_numbers_from_then_on(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,label\n1,2.5,x\n-3,1e3,y\n")
    table = read_table(tmp_path / "a.csv")
    check_cells({"a.csv": table})
    made = in_numbers(table)
    assert made.x.dtype == np.float64
    np.testing.assert_array_equal(made.x, [[1, 2.5], [-3, 1000]])
    assert (made.columns, made.lines) == (table.columns, table.lines)
    assert in_numbers(made) is made
