import math

import numpy as np
import pytest

import dann.experiments.judgement as judgement
from dann.datasets import DatasetNotFound
from dann.experiments import EXPERIMENTS, Study

QUICK = tuple(
    case._replace(adapter=lambda method, case=case: case.adapter(method).set_params(steps=110))
    for case in judgement.CASES
    if case.name in ("moons-30", "moons-45")
)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(judgement, "CASES", QUICK)
    monkeypatch.setattr(judgement, "TROUBLES", ("one class", "constant output"))
    monkeypatch.setattr(judgement, "PLANTED_IN", ("moons-30",))


def study(folder):
    return Study(EXPERIMENTS["judgement"], folder, [0], device="cpu")


def test_the_matrix_is_large_and_its_halves_share_no_case():
    assert len(judgement.CASES) >= 40
    assert len({case.name for case in judgement.CASES}) == len(judgement.CASES)
    assert set(judgement.CHOSEN_ON) | set(judgement.REPORTED_ON) == {case.name for case in judgement.CASES}
    assert not set(judgement.CHOSEN_ON) & set(judgement.REPORTED_ON)
    assert abs(len(judgement.CHOSEN_ON) - len(judgement.REPORTED_ON)) <= 1


@pytest.mark.parametrize("case", judgement.CASES, ids=lambda case: case.name)
def test_every_task_can_be_made_and_its_domains_fit(case):
    try:
        task = case.task(0)
    except DatasetNotFound as error:
        pytest.skip(str(error).splitlines()[0])
    assert task.source.x.shape[1:] == task.target.x.shape[1:] == task.target_test.x.shape[1:]
    assert task.source.x.dtype == task.target.x.dtype
    assert set(np.unique(task.target.y)) <= set(np.unique(task.source.y))
    for part in (task.source, task.target, task.target_test):
        assert len(part.x) == len(part.y) > 0
    case.adapter("dann")._check_settings()


def test_a_run_keeps_verdicts_and_hidden_accuracies_and_shows_both_halves(quick, tmp_path):
    done = study(tmp_path).run()
    verdicts = [row for row in done.rows if row["method"] == "verdict"]
    assert [row["dataset"] for row in verdicts] == ["moons-30", "moons-45"]
    ends = [row for row in done.rows if row.get("last")]
    assert len(ends) == 2 * 5 * 2
    assert all(0 <= row["oracle_accuracy"] <= 1 and row["seed"] == 0 for row in ends)
    assert {row["training"] for row in ends} == {0, 1}
    assert len([row for row in done.rows if row["method"].startswith("planted")]) == 3
    others = verdicts[0]["published"]
    assert list(others) == list(verdicts[0]["estimates"])
    assert all(0 <= value <= 1 for one in others.values() for value in one.values())
    atc = [others[name]["ATC"] for name in others]
    assert atc == pytest.approx([verdicts[0]["estimates"][name]["parts"]["atc"] for name in others])
    made = judgement.tabulated(done.report())
    assert "By agreement on the line alone: mean error 0." in made.caption
    assert "Guards: " in made.caption
    assert "Cost: " in made.caption
    assert len(made.rows) == 2 * (3 + len(judgement.VALIDATORS))
    assert (tmp_path / "figures" / "estimates.png").exists()
    assert (tmp_path / "figures" / "verdicts.png").exists()


def test_an_interrupted_run_judges_no_case_twice(quick, tmp_path, monkeypatch):
    first = judgement.judge

    def interrupted(study, case, task, seed):
        if case.name == "moons-45":
            raise KeyboardInterrupt
        first(study, case, task, seed)

    monkeypatch.setattr(judgement, "judge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run()
    judged = []

    def judge(study, case, task, seed):
        judged.append(case.name)
        first(study, case, task, seed)

    monkeypatch.setattr(judgement, "judge", judge)
    done = study(tmp_path).run()
    assert judged == ["moons-45"]
    assert len([row for row in done.rows if row["method"] == "verdict"]) == 2


def cases():
    def row(value, **scores):
        return {"oracle_accuracy": value, "scores": scores, "alarms": [], "training": 0, "method": "dann"}

    return {
        ("a", 0): {"source-only": [row(0.6, v=1.0)], "dann": [row(0.8, v=3.0)], "mcc": [row(0.9, v=2.0)]},
        ("b", 0): {"source-only": [row(0.7, v=0.0)], "dann": [row(0.5, v=1.0)], "mcc": [row(0.71, v=-1.0)]},
    }


def test_regrets_and_losses_are_counted_against_the_best_and_source_only():
    line = judgement.of_validator("v", cases())
    assert line["accuracy"] == pytest.approx((0.8 + 0.5) / 2)
    assert line["regret"] == pytest.approx((0.1 + 0.21) / 2)
    assert (line["wins"], line["losses"], line["cases"]) == (1, 1, 2)
    assert line["worst"] == pytest.approx(-0.2)
    assert line["worst_case"] == "b"


def test_the_model_that_is_left_counts_by_its_own_accuracy():
    trainings = [{"oracle_accuracy": a, "scores": {"input-ami": f}} for a, f in ((0.6, 0.1), (0.8, 0.3), (0.7, 0.2))]
    found = {("a", 0): {"source-only": [{"oracle_accuracy": 0.5, "scores": {}}], "dann": trainings}}
    line = judgement.of_choices({("a", 0): "dann"}, found, judgement.of_model)
    assert line["accuracy"] == 0.8
    assert line["regret"] == pytest.approx(0.7 - 0.8)
    assert judgement.of_model(found["a", 0]["source-only"]) == 0.5


def test_errors_and_coverage_of_estimates():
    ends = {"source-only": (0.7, 0.5, 0.8), "dann": (0.9, 0.85, 0.95)}
    e = {name: dict(zip(("accuracy", "low", "high"), values, strict=True)) for name, values in ends.items()}
    rows = [{"dataset": "a", "seed": 0, "method": "verdict", "decision": "adapt", "estimates": e}]
    rows[0]["published"] = {"source-only": {"ATC": 0.9}, "dann": {"ATC": 0.9}}  # .3 and .1 off
    unsure = {"source-only": {"accuracy": 0.3, "low": 0.0, "high": 1.0}}  # .4 off
    rows += [{"dataset": "b", "seed": 0, "method": "verdict", "decision": "cannot tell", "estimates": unsure}]
    found = judgement.of_estimates({"rows": rows}, cases())
    assert found["error"] == pytest.approx((0.1 + 0.1 + 0.4) / 3)
    assert found["decided"] == pytest.approx(0.1)
    assert found["published"] == {"ATC": pytest.approx(0.2)}
    assert found["coverage"] == pytest.approx(2 / 3)
    assert math.isnan(judgement.of_estimates({"rows": rows[1:]}, cases())["decided"])


def test_alarms_of_trainings_that_end_healthy_are_false():
    made = cases()
    for case in made.values():
        for rows in case.values():
            rows[0]["scores"]["source-accuracy"] = 0.95
            rows[0]["classes"] = 1.9
        case["dann"][0]["alarms"] = ["the source is lost"]
    made["b", 0]["dann"][0]["classes"] = 1.1
    key = {"dataset": "a", "method": "planted: one class", "onset": 0.4}
    rows = [{**key, "named_at": at} for at in (0.45, 0.55, None, 0.39)]
    shift = {"source_shares": [0.5, 0.5]}
    rows += [{"dataset": name, "seed": 0, "method": "verdict", "shift": shift} for name in ("a", "b")]
    found = judgement.of_guards({"rows": rows}, made)
    assert (found["planted"], found["in_time"]) == (4, 1)
    assert found["alarms"] == 2
    assert found["false_alarms"] == ["a, dann 0"]


def test_the_fit_finds_weights_that_estimate_and_a_width_that_covers(monkeypatch):
    random, rows = np.random.default_rng(0), []
    names = [f"case {k}" for k in range(12)]
    monkeypatch.setattr(judgement, "CHOSEN_ON", tuple(names))
    for name in names:
        parts = dict(zip(("atc", "agreement", "relative"), random.uniform(0.3, 1, 3).tolist(), strict=True))
        parts |= {"told": 1.0, "source": 1.0, "source-ami": 1.0, "input-ami": parts["relative"] ** 2}
        truth = 0.1 + 0.5 * parts["atc"] + 0.3 * parts["relative"] + 0.01 * random.normal()
        row = {
            "dataset": name,
            "seed": 0,
            "training": 0,
            "last": True,
            "oracle_accuracy": truth,
            "method": "source-only",
        }
        rows += [row, {"dataset": name, "seed": 0, "method": "verdict", "estimates": {"source-only": {"parts": parts}}}]
    weights, width = judgement.fit({"rows": rows})
    assert len(weights) == 4
    assert weights[1:] == pytest.approx([0.5, 0.0, 0.3], abs=0.05)
    assert 0 < width < 0.5
    assert len(judgement.fit({"rows": rows}, alone=True)[0]) == 3
