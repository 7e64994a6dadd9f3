"""What the docstring of every method has to say."""

import re

import pytest

from dann import METHODS

SAYS = {
    "the paper and its year": r"References ---+ .*\b(19|20)\d\d\b",
    "shapes": r"\((n|n_source|n_target), ",
    "what differs from the paper or its code": r"References ---+ .*\bDiffers (in|from)\b",
    "when to use it": r"\bGood (for|where)\b",
    "when not": r"[.;] [Nn]ot (for|where)\b",
}


def missing(method):
    """Return what a method's own docstring leaves out."""
    text = " ".join((method.__doc__ or "").split())
    return [what for what, pattern in SAYS.items() if not re.search(pattern, text)]


@pytest.mark.parametrize("name", METHODS)
def test_a_docstring_says_what_its_reader_needs(name):
    assert not missing(METHODS[name])


def test_one_that_says_less_is_found():
    class Silent:
        """Good where nothing is asked.

        References
        ----------
        Nobody, Nowhere. It differs.
        """

    assert missing(Silent) == [what for what in SAYS if what != "when to use it"]
