import io

import pytest
from rich.console import Console

from dann.experiments.tables import summary


@pytest.fixture
def shown():
    """Return a function that prints the summary of rows and published figures as lines of words."""

    def show(rows, published=()):
        file = io.StringIO()
        Console(file=file, width=200).print(summary({"rows": rows, "published": published}))
        return [" ".join(line.split()) for line in file.getvalue().splitlines() if line.strip()]

    return show


def row(method="dann", seed=0, domain="target", **metrics):
    return {"dataset": "moons", "method": method, "seed": seed, "domain": domain, **metrics}


def test_means_over_seeds_have_a_standard_deviation(shown):
    lines = shown([row(seed=0, accuracy=0.8, loss=1.0), row(seed=1, accuracy=0.9, loss=2.0)])
    assert lines[0] == "data method rows accuracy loss"
    assert "target 0.850 ± 0.071 1.500" in lines[1]
    assert "Means over seeds; accuracy with its standard deviation." in " ".join(lines)


def test_one_seed_has_none(shown):
    lines = shown([row(accuracy=0.8)])
    assert "0.800" in lines[1]
    assert not any("±" in line or "Means" in line for line in lines)


def test_scores_on_the_target_are_called_oracle_and_only_where_there_are_some(shown):
    assert any("oracle" in line for line in shown([row(accuracy=0.8)]))
    assert not any("oracle" in line for line in shown([row(domain="source", accuracy=0.8), row(pad=1.0)]))


def test_published_figures_stand_beside_ours_with_who_reports_them(shown):
    published = [
        {"dataset": "moons", "method": "dann", "domain": "target", "accuracy": 0.7666, "source": "a paper"},
        {"dataset": "moons", "method": "dann", "domain": "target", "accuracy": 0.72, "source": "a notebook"},
        {"dataset": "moons", "method": "dann", "domain": "source", "accuracy": 0.99, "source": "a paper"},
        {"dataset": "other", "method": "dann", "domain": "target", "accuracy": 0.11, "source": "a paper"},
    ]
    lines = shown([row(domain="source", accuracy=0.5), row(accuracy=0.5)], published)
    assert lines[1].endswith("source 0.500 0.99 [1]")
    assert lines[2].endswith("target 0.500 0.7666 [1], 0.72 [2]")
    assert "Published: [1] a paper; [2] a notebook." in " ".join(lines)
    assert not any("0.11" in line for line in lines)


def test_distances_between_the_domains_are_shown_once(shown):
    both = {"pad": 1.25, "domain_accuracy": 0.75}
    lines = shown([row(domain="source", accuracy=0.5, **both), row(accuracy=0.5, **both)])
    assert lines[0] == "data method rows accuracy PAD domain acc."
    assert "1.250" not in lines[1]
    assert lines[2].endswith("1.250 0.750")


def test_rows_without_metrics_are_left_out(shown):
    lines = shown([row(accuracy=0.5), row(method="dann candidate", reverse_risk=0.2)])
    assert not any("candidate" in line for line in lines)


def test_an_untrained_label_head_is_no_collapse():
    row = {"dataset": "blobs", "seed": 3, "domain": "target", "domain_accuracy": 0.9, "largest_share": 1.0}
    report = {"name": "blobs", "published": []}
    assert "Collapsed" not in str(summary({**report, "rows": [{**row, "method": "domain-only"}]}).caption)
    assert "Collapsed" in str(summary({**report, "rows": [{**row, "method": "dann"}]}).caption)


def test_only_tables_with_target_only_say_what_it_trains_on():
    row = {"dataset": "moons", "seed": 3, "domain": "target", "accuracy": 0.9}
    report = {"name": "moons", "published": []}
    for method in ("dann", "target-only"):
        said = str(summary({**report, "rows": [{**row, "method": method}]}).caption)
        assert "are oracle" in said
        assert ("Only target-only" in said) == (method == "target-only")


def test_a_table_with_published_figures_fits_a_narrow_terminal():
    rows = [
        {"dataset": "double-moon", "method": "source-only", "seed": seed, "domain": domain}
        | {"accuracy": 0.98, "loss": 0.1, "ari": 0.9, "domain_accuracy": 0.5}
        for seed in (0, 1)
        for domain in ("source", "target")
    ]
    published = [
        {"dataset": "double-moon", "method": "source-only", "domain": "target", "accuracy": 0.885, "source": "a"}
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary({"name": "double-moon", "rows": rows, "published": published}))
    assert "double-moon source-only source 0.980 ± 0.000" in console.export_text()
    assert "…" not in console.export_text()


def test_a_collapsed_training_is_named_below_the_table():
    row = {"dataset": "moons", "method": "dann", "seed": 3, "domain": "target", "accuracy": 0.5}
    report = {"name": "moons", "published": []}
    fine = summary({**report, "rows": [{**row, "largest_share": 0.6}]})
    seeds = [{**row, "seed": seed, "largest_share": share} for seed, share in ((3, 1.0), (4, 0.5), (5, 0.95))]
    collapsed = summary({**report, "rows": seeds})
    assert "Collapsed" not in str(fine.caption)
    assert "Collapsed: moons, dann, target rows: more than 90% taken for one class with seed 3, 5." in str(
        collapsed.caption
    )


@pytest.mark.parametrize(("majority", "share", "named"), [(0.93, 0.95, False), (0.5, 0.95, True), (0.97, 1.0, True)])
def test_a_model_of_rows_that_are_mostly_of_one_class_has_not_collapsed(majority, share, named):
    row = {"dataset": "yours", "method": "dann", "seed": 0, "domain": "target", "accuracy": 0.9}
    rows = [{**row, "majority": majority, "largest_share": share}]
    assert ("Collapsed" in str(summary({"name": "adapt", "published": [], "rows": rows}).caption)) == named


@pytest.mark.parametrize(("n", "told"), [(15, True), (150, False)])
def test_few_labels_of_the_target_are_told(n, told):
    row = {"dataset": "yours", "method": "dann", "seed": 0, "domain": "target", "accuracy": 0.9, "n": n}
    said = str(summary({"name": "adapt", "published": [], "rows": [row]}).caption)
    assert ("There are 15 of them." in said) == told
