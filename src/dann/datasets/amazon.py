"""Amazon reviews: sentiment of product reviews as word counts, four kinds of products."""

import numpy as np

from .fetch import fetch, homes
from .task import Labelled, Task

DOMAINS = ("books", "dvd", "electronics", "kitchen")
N_FEATURES = 5000
URL = "https://raw.githubusercontent.com/GRAAL-Research/domain_adversarial_neural_network/master/data/"
SHA256 = {
    "books_test": "fe4605c7dcf0e0a9410fd2a32f247caaf9abb352cc6e4c3e0f400853163ad9c4",
    "books_train": "317f9a2ec34b81de770b63a84d8c5cc2dc16bd0be6e079d2ff5b5bad5213ea19",
    "dvd_test": "4fe1b1a15010f78d8d0c49fe362d35fd4677463a45f1ac02a9f410ae1e638060",
    "dvd_train": "95f602aa08bf6b55758f7b0b18df3882fe30acb11987ee60b6b4bb3c44cba733",
    "electronics_test": "641783bc941839c3a111d3488a1b7e3bd820a61ec14a129e7429b47703aa961d",
    "electronics_train": "7d0061f03ff3827e4f8036b051b5e5828fddc0cd115aa5b212cd28d624dc14e4",
    "kitchen_test": "e1502b97a824eb12314be4447394fa736fecb781c0724e6529cd6733ac7ff6d8",
    "kitchen_train": "a70b5ebfe1413e0e16280360905f5c3b64389c435cd20c0165dc9d7f293b31b5",
}


def amazon_reviews(source: str = "books", target: str = "dvd") -> Task:
    """Amazon reviews: good or bad, from word counts, of one kind of product to another.

    Parameters
    ----------
    source, target : {"books", "dvd", "electronics", "kitchen"}
        Two different kinds of products.

    Returns
    -------
    Task
        Counts of 5,000 words and word pairs, float32 (2000, 5000) a domain; classes 0 (bad) and 1 (good). Test rows:
        4,465 books, 3,586 dvd, 5,681 electronics, 5,945 kitchen.

    Raises
    ------
    DatasetNotFound
        When a file is missing and cannot be downloaded (0.7 to 3.2 MB each).
    ValueError
        On an unknown kind of product, the same kind twice, or a damaged file.

    References
    ----------
    Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17(59), 2016, Section 5.1.3 and Table 1; the
    files are its authors'.
    """
    for role, domain in (("source", source), ("target", target)):
        if domain not in DOMAINS:
            raise ValueError(f"{role}={domain!r} is unknown: use one of {', '.join(DOMAINS)}")
    if source == target:
        raise ValueError(f"source and target are both {source!r}: choose two of {', '.join(DOMAINS)}")
    return Task(
        "amazon-reviews",
        source=read_reviews(source, "train"),
        target=read_reviews(target, "train"),
        source_test=read_reviews(source, "test"),
        target_test=read_reviews(target, "test"),
        description=f"{source} to {target}",
    )


def amazon_domains() -> list[str]:
    """Return the kinds of products whose files are on this machine."""
    return [
        domain
        for domain in DOMAINS
        if all(
            any((home / place).is_file() for home in homes() for place in places(domain, part))
            for part in ("train", "test")
        )
    ]


def places(domain: str, part: str) -> list[str]:
    """Return where a file may lie, relative to the data folder, the preferred place first."""
    return [f"amazon-reviews/{domain}_{part}.svmlight", f"{domain}_{part}.svmlight"]


def read_reviews(domain: str, part: str) -> Labelled:
    """Read one file as dense counts and labels 0 or 1."""
    from sklearn.datasets import load_svmlight_file

    first, *others = places(domain, part)
    path = fetch(first, [f"{URL}{domain}_{part}.svmlight"], SHA256[f"{domain}_{part}"], others=others)
    try:
        counts, signs = load_svmlight_file(str(path), n_features=N_FEATURES, dtype=np.float32, zero_based=True)
    except ValueError as error:
        raise ValueError(f"{path} is not the reviews file that it should be ({error}); get it again") from error
    if not np.isin(signs, (-1, 1)).all():
        raise ValueError(f"{path} has the labels {np.unique(signs)[:5]}, expected -1 and 1; get it again")
    return Labelled(counts.toarray(), (signs > 0).astype(np.int64))
