"""Tables of a comparison."""

import math
import re
from dataclasses import replace

import pytest
from rich.console import Console

from dann import MLP, DomainAdapter, compare
from dann.experiments.comparing import classes_that_shift, columns_that_shift, estimates_of, side_by_side


@pytest.fixture
def compared(make_arrays):
    """Return a comparison of two methods, with or without target labels."""
    made = make_arrays(160, 150)
    adapter = DomainAdapter(backbone=MLP((16,), domain_hidden=(8,)), steps=60, batch_size=16, lr=0.01, device="cpu")

    def run(methods=("dann", "cdan+mcc", "deep-coral"), **settings):
        return compare(made.x, made.y, made.xt, methods, adapter=adapter, seeds=1, checkpoints=3, **settings)

    return lambda *methods, labels=False: run(*methods, y_oracle=made.yt if labels else None)


def printed(found, table=None):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table or side_by_side(found)[0])
    return capture.get().splitlines()


def test_without_labels_the_steps_of_the_last_and_the_selected_checkpoint_are_shown(compared):
    found = compared()
    next(c for c in found.candidates if (c.name, c.step) == ("dann", 20)).scores["input-ami"] = 1.5
    assert [found.selected("dann"), found.of("dann")[0].step] == [20, 60]
    header, *lines = printed(found)
    assert header.split() == ["method", "estimate", "source", "input-ami", "last", "selected", "s"]
    for name, line in zip(found.names, lines, strict=False):
        scores = {c.step: c.scores["input-ami"] for c in found.candidates if c.name == name}
        best = max(step for step in scores if scores[step] == max(scores.values()))
        assert re.search(rf"^{re.escape(name)} .* 60 +{best} +[0-9.]+ *$", line)
    assert any(line.startswith("last: the step at the end") for line in lines)
    assert "*" not in "".join(lines)


def test_with_labels_their_accuracies_are(compared):
    header, *_ = printed(compared(labels=True))
    assert header.split()[4:] == ["last*", "selected*", "best*", "s"]


def test_estimates_of_methods_that_are_ruled_out_are_marked(compared):
    found = compared()
    assert "†" not in "".join(printed(found))
    ruled_out = replace(found, assessment=replace(found.assessment, ruled_out=["dann"]))
    for lines in (printed(ruled_out), printed(ruled_out, estimates_of(ruled_out.assessment))):
        marked = [line.split()[0] for line in lines if "] †" in line]
        assert marked == ["dann"]
        assert "†: ruled out" in "".join(lines)


def test_columns_are_not_told_of_next_to_no_rows(compared):
    found = compared()
    assert columns_that_shift(found)
    assert not columns_that_shift(replace(found, assessment=replace(found.assessment, estimates={})))


def test_a_method_that_failed_has_no_checkpoints(compared, make_arrays):
    diverging = DomainAdapter("dann", MLP((16,)), steps=60, batch_size=16, lr=1e30, optimizer="sgd", device="cpu")
    lines = printed(compared({"broken": diverging}))
    (seconds,) = next(line for line in lines if line.startswith("broken")).split()[1:]
    assert float(seconds) >= 0


def test_classes_whose_share_differs_are_told_by_their_names(compared):
    found = compared()
    shares = {"source_shares": [0.5, 0.5], "priors": [0.9, 0.1], "priors_low": [0.8, 0.05], "priors_high": [0.95, 0.2]}
    of = lambda kind: replace(  # noqa: E731
        found,
        classes=["cat", "dog"],
        assessment=replace(found.assessment, shift=found.assessment.shift._replace(kind=kind, **shares)),
    )
    (line,) = classes_that_shift(of("labels"))
    assert line.endswith("of the source: cat (0.90 [0.80, 0.95] for 0.50), dog (0.10 [0.05, 0.20] for 0.50)")
    for kind in ("both", "unclear"):
        assert "if its inputs do not make the model err" in classes_that_shift(of(kind))[0]
    assert not classes_that_shift(of("inputs"))
    assert not classes_that_shift(of("none"))
    shares["priors_low"], shares["priors_high"] = [0.4, 0.05], [0.95, 0.6]
    assert not classes_that_shift(of("labels"))
    shares = {name: [math.nan, math.nan] for name in shares} | {"source_shares": [1.0, 0.0]}  # one without source rows
    assert not classes_that_shift(of("unclear"))
