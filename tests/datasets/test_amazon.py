import numpy as np
import pytest

from dann.datasets import DatasetNotFound, amazon_domains, amazon_reviews


def write(home, domain, lines="1 0:2 4999:1\n-1 7:3\n"):
    home.mkdir(exist_ok=True)
    for part in ("train", "test"):
        (home / f"{domain}_{part}.svmlight").write_text(lines)


def test_counts_and_labels_are_read_into_dense_rows(home):
    write(home, "books")
    write(home, "dvd")
    task = amazon_reviews("books", "dvd")
    for part in (task.source, task.target, task.source_test, task.target_test):
        assert part.x.shape == (2, 5000)
        assert part.x.dtype == np.float32
        assert part.y.tolist() == [1, 0]
        assert (part.x[0, 0], part.x[0, 4999], part.x[1, 7], part.x.sum()) == (2, 1, 3, 6)


def test_only_domains_with_both_files_are_listed(home):
    assert amazon_domains() == []
    write(home, "kitchen")
    write(home, "books")
    (home / "kitchen_test.svmlight").unlink()
    assert amazon_domains() == ["books"]


@pytest.mark.parametrize(
    ("domains", "words"),
    [
        (("book", "dvd"), "source='book' is unknown: use one of books, dvd, electronics, kitchen"),
        (("books", "music"), "target='music' is unknown"),
        (("dvd", "dvd"), "source and target are both 'dvd'"),
    ],
)
def test_wrong_domains_name_the_valid_ones(domains, words):
    with pytest.raises(ValueError, match=words):
        amazon_reviews(*domains)


def test_a_missing_file_is_named(home):
    write(home, "books")
    with pytest.raises(DatasetNotFound, match=r"amazon-reviews/kitchen_train\.svmlight is missing"):
        amazon_reviews("books", "kitchen")


@pytest.mark.parametrize("lines", ["1 5000:1\n", "1 0:x\n", "3 0:1\n"])
def test_a_file_of_another_kind_is_an_error(home, lines):
    write(home, "books", lines)
    write(home, "dvd")
    with pytest.raises(ValueError, match=r"books_train\.svmlight"):
        amazon_reviews()


def test_real_reviews_have_the_papers_sizes(real):
    real(*(f"amazon-reviews/{domain}_{part}.svmlight" for domain in ("books", "dvd") for part in ("train", "test")))
    assert {"books", "dvd"} <= set(amazon_domains())
    task = amazon_reviews("books", "dvd")
    assert task.source.x.shape == task.target.x.shape == (2000, 5000)
    assert len(task.source_test.y) == 4465
    assert len(task.target_test.y) == 3586
    assert np.bincount(task.source.y).tolist() == [1000, 1000]
