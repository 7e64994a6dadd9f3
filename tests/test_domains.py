import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dann import Domains
from dann.domains import target_labels

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 0, 1])
XT = X[:4] + 1


def door(x=X, y=Y, xt=XT, **kwargs):
    return Domains.from_arrays(x, y, xt, **kwargs)


def with_value(value, row=3, column=1, dtype=np.float64):
    x = X.astype(dtype)
    x[row, column] = value
    return x


# units


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_columns_in_another_unit_are_asked_about(factor):
    rng = np.random.default_rng(0)
    x, names = rng.normal(size=(40, 3)), ["mass", "width", "age"]
    table = pd.DataFrame(x, columns=names)
    with pytest.warns(UserWarning, match=r"column 'width': values vary .* is that another unit\?"):
        Domains.from_arrays(table, np.arange(40) % 2, table * [1, factor, 5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Domains.from_arrays(table, np.arange(40) % 2, table * [1, 0, 40] + [0, 3, 0])  # a constant has no unit
        rare = (rng.random((5000, 1)) < 0.5), (rng.random((5000, 1)) < 0.001)
        Domains.from_arrays(rare[0], np.arange(5000) % 2, rare[1])


@pytest.mark.parametrize("factor", [1e4, 1e-4])
def test_channels_in_another_unit_are_asked_about(factor):
    x = np.random.default_rng(0).random((40, 2, 5, 5))
    with pytest.warns(UserWarning, match=r"channel 1: values vary .* is that another unit\?"):
        Domains.from_arrays(x, np.arange(40) % 2, x * np.array([1, factor])[:, None, None])


def test_the_few_cells_of_a_sparse_column_have_no_unit():
    x, y = np.ones((400, 1)), np.arange(400) % 2
    x[::2] = 0
    few = np.where(np.arange(400)[:, None] < 10, 1e3 * np.arange(400)[:, None], 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Domains.from_arrays(x, y, few)
    with pytest.warns(UserWarning, match="another unit"):
        Domains.from_arrays(x, y, 1e3 * x)


# features that are refused


def test_a_fill_value_in_an_image_is_refused_as_in_a_table(images):
    x = images.xt.astype(np.float32)
    x[3, 0, 2, 1] = 9.969e36
    with pytest.raises(
        ValueError, match=r"the target has 9.969e\+36 in channel 0: .* stands for a missing value, impute"
    ):
        Domains.from_arrays(images.x.astype(np.float32), images.y, x)


def test_images_whose_differences_single_precision_loses_are_refused(images):
    with pytest.raises(
        ValueError, match="channel 0 has values around 1e\\+10, whose differences single precision loses"
    ):
        Domains.from_arrays(images.x + 1e10, images.y, images.xt + 1e10)


def test_pixels_of_another_kind_than_the_sources_are_refused(images):
    with pytest.raises(
        ValueError, match=r"bytes \(uint8\) for pixels, the source has numbers of another kind: give both"
    ):
        Domains.from_arrays(images.x.astype(np.uint16), images.y, images.xt.astype(np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_named_by_row_and_position(value):
    with pytest.raises(ValueError, match=r"the source has 1 values that are NaN or infinite.*row 3, position 1"):
        door(with_value(value))


def test_nan_in_a_frame_is_named_by_its_column():
    frame = pd.DataFrame(with_value(np.nan), columns=["age", "income"])
    with pytest.raises(ValueError, match="row 3, column 'income'"):
        door(frame, xt=frame.iloc[:2])


def test_nan_in_the_target_is_said_to_be_in_the_target():
    with pytest.raises(ValueError, match="the target has 1 values"):
        door(xt=with_value(np.nan))


def test_float64_beyond_float32_is_refused_instead_of_becoming_infinite():
    with pytest.raises(ValueError, match=r"infinite \(as float32\).*row 3"):
        door(with_value(1e300))


def test_none_among_numbers_is_a_missing_value():
    with pytest.raises(ValueError, match="NaN or infinite"):
        door(with_value(None, dtype=object))


def test_text_in_a_numeric_column_is_named_with_row_and_column():
    frame = pd.DataFrame({"age": [1, 2, 3, 4, 5, 6], "city": [1, 2, 3, "Bern", 5, 6]})
    with pytest.raises(ValueError, match=r"'Bern' where a number belongs .row 3, column 'city'"):
        door(frame, xt=frame)


def test_a_column_of_pandas_strings_is_text():
    frame = pd.DataFrame({"city": pd.Series(["Bern", "Basel"] * 3, dtype="str")})
    with pytest.raises(ValueError, match=r"'Bern' where a number belongs .row 0, column 'city'"):
        door(frame, xt=frame)


@pytest.mark.parametrize("kind", [object, str])
def test_names_with_underscores_are_no_numbers(kind):
    rows = np.array([["1.5", "2"], ["10_2", "3"]] * 3, dtype=kind)
    with pytest.raises(ValueError, match=r"the source has '10_2' where a number belongs \(row 1"):
        door(rows, xt=rows)


@pytest.mark.parametrize("kind", [np.complex64, "datetime64[s]"])
def test_values_without_an_order_of_numbers_are_refused(kind):
    with pytest.raises(ValueError, match="features must be numbers"):
        door(np.zeros((6, 2), dtype=kind))


@pytest.mark.parametrize("shape", [(6,), (6, 1, 1, 1, 1), ()])
def test_what_is_neither_table_nor_images_is_refused(shape):
    with pytest.raises(ValueError, match="expected a table"):
        door(np.zeros(shape))


def test_rows_without_features_are_refused():
    with pytest.raises(ValueError, match="rows without features"):
        door(np.zeros((6, 0)), xt=np.zeros((6, 0)))


def test_an_empty_domain_is_refused_by_name():
    with pytest.raises(ValueError, match="the source has no rows"):
        door(np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match="the target has no rows"):
        door(xt=np.zeros((0, 2)))


def test_a_target_with_another_number_of_columns_is_refused():
    with pytest.raises(ValueError, match=r"the target has rows of shape \(3,\), the source has rows of shape \(2,\)"):
        door(xt=np.zeros((4, 3)))


def test_a_target_with_other_columns_names_the_missing_and_the_unexpected():
    source = pd.DataFrame(X, columns=["age", "income"])
    target = pd.DataFrame(XT, columns=["age", "wage"])
    with pytest.raises(ValueError, match="it lacks income; only it has wage"):
        door(source, xt=target)


def test_images_of_another_pixel_kind_or_size_are_refused():
    pixels = np.zeros((6, 3, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="the source has bytes"):
        door(pixels, xt=pixels.astype(np.float32))
    with pytest.raises(ValueError, match="the same image size"):
        door(pixels, xt=np.zeros((4, 3, 9, 9), np.uint8))


# labels that are refused


def test_a_source_of_one_class_is_refused():
    with pytest.raises(ValueError, match=r"the source has one class, .*at least two"):
        door(y=np.ones(6, int))


def test_continuous_labels_are_refused_with_an_example():
    with pytest.raises(ValueError, match=r"continuous .for example 0\.5"):
        door(y=[0, 1, 0, 1, 0.5, 1])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_source_labels_are_counted_and_placed(missing):
    with pytest.raises(ValueError, match="y has 1 missing labels, the first in row 2"):
        door(y=pd.Series([0, 1, missing, 1, 0, 1], dtype=object))


def test_labels_of_several_kinds_are_refused():
    with pytest.raises(ValueError, match="y mixes text and other labels, such as 'a' and 1: make all text"):
        door(y=np.array([1, "a", 1, "a", 1, "a"], dtype=object))


def test_text_of_any_length_makes_labels():
    made = door(y=np.array(["cat", "dog"] * 3, dtype=np.dtypes.StringDType()))
    assert made.classes.tolist() == ["cat", "dog"]


def test_a_missing_value_of_pandas_is_called_so():
    frame = pd.DataFrame({"a": pd.array([1, None, 3, 4, 5, 6], dtype="Int64"), "b": 1.0}).astype(object)
    with pytest.raises(ValueError, match="a missing value in row 1, column 'a'; impute or drop it"):
        door(frame, xt=frame)


def test_what_holds_no_rows_is_named():
    with pytest.raises(ValueError, match="the source is one dict; expected a table"):
        door({"a": [1.0]})


def test_another_number_of_labels_than_rows_is_refused():
    with pytest.raises(ValueError, match="one label for each of the 6 rows"):
        door(y=[0, 1, 0])
    with pytest.raises(ValueError, match=r"y_target has shape \(2,\); expected one label for each of the 4 target"):
        door(y_target=[0, 1])


def test_one_hot_labels_are_refused():
    with pytest.raises(ValueError, match="one label for each"):
        door(y=np.eye(2)[Y])


def test_target_labels_that_the_source_lacks_are_named():
    with pytest.raises(
        ValueError, match=r"the target has labels that the source does not have: \[7\]; known are \[0, 1\]"
    ):
        door(y_target=[0, 1, 7, -1])


# where the target comes from


def test_no_target_at_all_says_the_two_ways_to_give_one():
    with pytest.raises(ValueError, match="give X_target, or mark rows of X as target"):
        door(xt=None)
    with pytest.raises(ValueError, match="there are no target rows"):
        door(xt=None, sample_domain=[0, 0, 0, 1, 1, 1])


def test_a_target_from_two_places_is_refused():
    with pytest.raises(ValueError, match="target rows come from two places: X_target and 2 rows"):
        door(sample_domain=[0, 0, 0, 0, -1, -1])


def test_rows_that_are_all_target_leave_no_source():
    with pytest.raises(ValueError, match="no source rows"):
        door(xt=None, sample_domain=[-1] * 6)


def test_target_labels_without_a_target_are_refused():
    with pytest.raises(ValueError, match="X_target is missing"):
        door(xt=None, sample_domain=[0, 0, 0, 0, -1, -1], y_target=[0, 1])


@pytest.mark.parametrize("marks", [[0, -1], [0.0, 0.0, 0.0, 0.0, -1.0, -1.0], ["a"] * 6, [[0, 0, 0, -1, -1, -1]]])
def test_sample_domain_must_be_one_whole_number_a_row(marks):
    with pytest.raises(ValueError, match="sample_domain must be 6 whole numbers"):
        door(xt=None, sample_domain=marks)


# what is accepted


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8, bool])
def test_numbers_of_any_kind_become_the_same_float32_table(kind):
    x = X.astype(kind)
    domains = door(x, xt=x[:3])
    for part, rows in ((domains.sources[0].x, x), (domains.target.x, x[:3])):
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, rows.astype(np.float32))


@pytest.mark.parametrize("container", [list, np.asfortranarray, sparse.csr_matrix, sparse.csc_array, pd.DataFrame])
def test_tables_of_any_container_become_the_same_rows(container):
    x, xt = (container(a.tolist() if container is list else a) for a in (X, XT))
    domains = door(x, xt=xt)
    np.testing.assert_array_equal(domains.sources[0].x, X.astype(np.float32))
    np.testing.assert_array_equal(domains.target.x, XT.astype(np.float32))


def test_numbers_that_were_read_as_text_are_numbers():
    frame = pd.DataFrame(X.astype(str), columns=["a", "b"]).astype("str")
    np.testing.assert_array_equal(door(frame, xt=frame).target.x, X.astype(np.float32))


def test_a_reordered_target_frame_is_put_into_the_sources_order():
    source = pd.DataFrame(X, columns=["age", "income"])
    target = pd.DataFrame(XT, columns=["age", "income"])[["income", "age"]]
    domains = door(source, xt=target)
    np.testing.assert_array_equal(domains.target.x, XT.astype(np.float32))
    assert domains.columns == ["age", "income"]


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog"] * 3,
        pd.Series(["cat", "dog"] * 3),
        pd.Series(["cat", "dog"] * 3, dtype=object),
        pd.Series(["cat", "dog"] * 3, dtype="category"),
        pd.DataFrame({"kind": ["cat", "dog"] * 3}),
    ],
)
def test_names_of_classes_are_coded_in_alphabetical_order(labels):
    domains = door(y=labels)
    assert domains.classes.tolist() == ["cat", "dog"]
    assert domains.sources[0].y.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("labels", [[False, True] * 3, [3, 10] * 3, [-1, 1] * 3, [0.0, 1.0] * 3])
def test_labels_of_any_kind_come_back_as_the_users_own(labels):
    domains = door(y=labels)
    assert domains.classes[domains.sources[0].y].tolist() == labels


def test_grey_images_get_a_channel():
    domains = door(np.zeros((6, 8, 9), np.uint8), xt=np.zeros((2, 8, 9), np.uint8))
    assert domains.shape == (1, 8, 9)


def test_channels_last_images_are_turned_to_channels_first():
    x = np.arange(6 * 8 * 9 * 3).reshape(6, 8, 9, 3).astype(np.uint8)
    domains = door(x, xt=x[:2])
    assert domains.shape == (3, 8, 9)
    np.testing.assert_array_equal(domains.target.x[1, 2], x[1, :, :, 2])


def test_byte_images_stay_bytes():
    x = np.zeros((6, 3, 8, 8), np.uint8)
    assert door(x, xt=x).target.x.dtype == np.uint8


def test_target_labels_are_unknown_where_none_are_given():
    assert door().target.y.tolist() == [-1, -1, -1, -1]


@pytest.mark.parametrize("mark", [-1, -1.0, None, np.nan, pd.NA])
def test_marks_of_unknown_target_labels(mark):
    assert door(y_target=[1, mark, 0, mark]).target.y.tolist() == [1, -1, 0, -1]


def test_nullable_integers_of_pandas_mark_unknown_target_labels():
    assert door(y_target=pd.Series([1, pd.NA, 0, pd.NA], dtype="Int64")).target.y.tolist() == [1, -1, 0, -1]


def test_minus_one_is_a_label_where_it_is_a_class():
    domains = door(y=[-1, 1] * 3, y_target=[-1, 1, None, np.nan])
    assert domains.classes.tolist() == [-1, 1]
    assert domains.target.y.tolist() == [0, 1, -1, -1]


def test_known_target_labels_may_be_names():
    domains = door(y=["cat", "dog"] * 3, y_target=pd.Series(["dog", None, "cat", None]))
    assert domains.target.y.tolist() == [1, -1, 0, -1]


def test_text_marks_unknown_target_labels_unless_it_is_a_class():
    assert door(y=["cat", "dog"] * 3, y_target=["dog", "-1", "cat", ""]).target.y.tolist() == [1, -1, 0, -1]
    assert door(y=["-1", "dog"] * 3, y_target=["dog", "-1", None, ""]).target.y.tolist() == [1, 0, -1, -1]


@pytest.mark.parametrize("hidden", [-1, 7, 0.5, np.nan, None, pd.NA])
def test_labels_of_target_rows_inside_x_are_ignored_whatever_they_are(hidden):
    labels = pd.Series([0, 1, 0, 1, hidden, hidden], dtype=object)
    domains = door(y=labels, xt=None, sample_domain=[0, 0, 0, 0, -1, -1])
    assert domains.classes.tolist() == [0, 1]
    assert domains.target.y.tolist() == [-1, -1]


def test_sources_are_numbered_in_order_whatever_their_numbers_and_places():
    domains = door(y=[0, 1, 0, 1, 9, 1], xt=None, sample_domain=[7, 2, 2, 7, -3, 2])
    assert [s.name for s in domains.sources] == ["source 2", "source 7"]
    np.testing.assert_array_equal(domains.sources[0].x, X[[1, 2, 5]].astype(np.float32))
    np.testing.assert_array_equal(domains.sources[1].x, X[[0, 3]].astype(np.float32))
    np.testing.assert_array_equal(domains.target.x, X[[4]].astype(np.float32))


def test_a_source_may_lack_classes_that_another_has():
    domains = door(y=[0, 0, 0, 1, 1, 1], sample_domain=[0, 0, 0, 1, 1, 1])
    assert [s.y.tolist() for s in domains.sources] == [[0, 0, 0], [1, 1, 1]]


def test_the_missing_label_of_a_source_row_is_placed_in_the_users_rows():
    with pytest.raises(ValueError, match="the first in row 4"):
        door(y=[0, 1, np.nan, 1, np.nan, 1], xt=None, sample_domain=[0, 0, -1, 0, 0, 0])


# weights


def test_weights_go_with_their_rows():
    weight = np.arange(6.0) + 1
    domains = Domains.from_arrays(X, Y, sample_domain=[0, 1, -1, 0, 1, -1], sample_weight=weight)
    assert [d.weight.tolist() for d in domains.all] == [[1, 4], [2, 5], [3, 6]]
    assert [d.weight for d in door().all] == [None, None]
    assert door(sample_weight=weight).target.weight is None


def test_balanced_classes_have_the_same_mass_in_every_source():
    y, weight = np.array([0, 0, 0, 0, 1, 1]), np.array([1.0, 1, 1, 3, 1, 0])
    for given in (None, weight):
        (source,) = door(y=y, sample_weight=given, class_weight="balanced").sources
        assert source.weight[y == 0].sum() == pytest.approx(source.weight[y == 1].sum())
    assert source.weight[3] == pytest.approx(3 * source.weight[0])
    (source,) = door(y=np.where(y, "b", "a"), class_weight={"b": 5}).sources
    assert source.weight.tolist() == [1, 1, 1, 1, 5, 5]


def test_class_weights_are_of_all_sources_together():
    y = np.array([0, 0, 1, 0, 1, 2])
    domains = door(y=y, sample_domain=[0, 0, 0, 1, 1, 1], class_weight={2: 5.0})
    assert [d.weight.tolist() for d in domains.sources] == [[1, 1, 1], [1, 1, 5]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_weight": [1.0] * 5}, r"sample_weight must be 6 numbers; got shape \(5,\)"),
        ({"sample_weight": ["a"] * 6}, "sample_weight must be 6 numbers"),
        ({"sample_weight": [1, 1, -2, 1, 1, 1]}, "sample_weight must be finite and 0 or more; number 2 is -2"),
        ({"sample_weight": [1, 1, 1, np.nan, 1, 1]}, "number 3 is nan"),
        ({"sample_weight": [0.0] * 6}, "all 6 rows of source have the weight 0: there is nothing to train on"),
        ({"class_weight": "even"}, "class_weight='even' must be 'balanced' or a dict"),
        ({"class_weight": {7: 1.0}}, r"class_weight names 7, and the classes are \[0, 1\]"),
        ({"class_weight": {0: -1.0}}, "class_weight must be finite and 0 or more; number 0 is -1"),
        ({"class_weight": {0: 0.0, 1: 0.0}}, "all 6 rows of source have the weight 0"),
        ({"class_weight": np.ones(2)}, "must be 'balanced' or a dict"),
    ],
)
def test_weights_that_cannot_be_drawn_by_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        door(**settings)


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_a_column_that_single_precision_would_spoil_is_refused(arrays, kind):
    spoiled = np.c_[arrays.x, 1.7e9 + np.arange(len(arrays.x)) % 60].astype(kind)
    frame = pd.DataFrame(spoiled, columns=["a", "b", "c", "seconds"])
    with pytest.raises(ValueError, match=r"column 'seconds' has values around 1\.7e\+09, whose differences"):
        Domains.from_arrays(frame, arrays.y, frame)
    kept = frame.assign(seconds=frame["seconds"] - 1_700_000_000)
    assert Domains.from_arrays(kept, arrays.y, kept).columns == ["a", "b", "c", "seconds"]
    constant = frame.assign(seconds=1_700_000_001)
    Domains.from_arrays(constant, arrays.y, constant)


def test_a_number_too_large_to_be_squared_is_refused(arrays):
    x = arrays.x.astype(np.float64)
    x[5, 1] = -9.96921e36
    with pytest.raises(ValueError, match=r"the source has 9\.96921e\+36 in column 1: too large to be squared"):
        Domains.from_arrays(x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="the target has 9"):
        Domains.from_arrays(arrays.x, arrays.y, x)


def test_what_single_precision_holds_well_enough_is_taken(arrays):
    """A month of dates is little beside eight years, sums of shares differ by rounding, whole numbers are exact."""
    n, m = len(arrays.x), len(arrays.xt)
    random = np.random.default_rng(0)
    years = 20_180_101 + 10_000 * (np.arange(n) % 8) + np.arange(n) % 28
    shares = random.dirichlet(np.ones(5), n + m).sum(1)
    codes = 16_000_000 + np.arange(n + m) % 3
    x = np.c_[arrays.x, years, shares[:n], codes[:n]].astype(np.float64)
    xt = np.c_[arrays.xt, 20_250_101 + np.arange(m) % 28, shares[n:], codes[n:]].astype(np.float64)
    assert Domains.from_arrays(x, arrays.y, xt).target.x.shape == xt.shape


def test_masked_values_are_missing(arrays):
    masked = np.ma.array(arrays.x, mask=arrays.x > 2)
    with pytest.raises(ValueError, match="values that are NaN or infinite"):
        Domains.from_arrays(masked, arrays.y, arrays.xt)
    same = Domains.from_arrays(np.ma.array(arrays.x), arrays.y, arrays.xt)
    np.testing.assert_array_equal(same.sources[0].x, arrays.x)


def test_channels_that_may_be_last_are_warned_of(images):
    x = np.zeros((12, 16, 16, 7), np.uint8)
    with pytest.warns(UserWarning, match=r"taken for 16 channels of 16x7 pixels; where channels come last, move them"):
        Domains.from_arrays(x, images.y, x)
    x = np.zeros((12, 24, 18, 10), np.uint8)
    with pytest.warns(UserWarning, match="taken for 24 channels of 18x10 pixels; where channels come last"):
        Domains.from_arrays(x, images.y, x)
    Domains.from_arrays(images.x, images.y, images.xt)


def test_target_labels_in_two_columns_are_not_one_label_for_each_row():
    halves = np.zeros((len(XT) // 2, 2))
    with pytest.raises(ValueError, match=rf"y_target has shape \({len(XT) // 2}, 2\); expected one label for each"):
        door(y_target=halves, xt=XT[: 2 * len(halves)])


def test_labels_of_other_classes_are_coded_and_named_where_they_may_be_there():
    classes, y = np.array(["a", "c"]), np.array(["a", "", "b", "c", "d"], dtype=object)
    with pytest.warns(
        UserWarning, match=r"2 of 4 labelled target rows are of classes that the source lacks \('b', 'd'\)"
    ):
        codes = target_labels(y, 5, classes, others=True)
    assert codes.tolist() == [0, -1, 2, 1, 2]
    with pytest.raises(ValueError, match="the source does not have"):
        target_labels(y, 5, classes)
    with pytest.raises(ValueError, match="the source does not have"):  # labels of another kind, as like as not
        target_labels(np.arange(5), 5, classes, others=True)
