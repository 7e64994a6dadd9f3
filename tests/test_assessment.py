"""Assessment: made-up evidence in, verdicts out."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, binom, norm
from sklearn.base import clone

from dann import MLP, DomainAdapter, assessment
from dann.assessment import (
    Estimate,
    assess,
    better,
    by_chance,
    by_labels,
    estimate,
    labels_needed,
    suggest_labels,
    updated,
)
from dann.evidence import Evidence, clusters
from dann.guards import Event

LEVEL = 0.9


def trainings(accuracy, *, seeds=2, n=300, m=300, source=0.95, coherent=True, sure=4.0, seed=0):
    """Evidence of a model that is right on shares of the source's and the target's rows; all of the same rows."""
    rows = np.random.default_rng(99)
    y, target = rows.integers(2, size=n), rows.integers(2, size=m)
    x = np.c_[target * 6.0, np.zeros(m)] + rows.normal(size=(m, 2))
    found = [clusters(points, 2) for points in (rows.normal(size=(n, 2)) + 6 * y[:, None], x)]
    made = []
    for k in range(seeds):
        random = np.random.default_rng([seed, k])

        def logits(labels, share, order, random=random):
            wrong = np.zeros(len(labels), bool)
            wrong[order[: round((1 - share) * len(labels))]] = True
            margin = np.where(wrong, 1.0, sure) + random.normal(size=len(labels)) * 0.1
            return np.where((labels ^ wrong)[:, None] == [0, 1], margin[:, None], 0.0)

        order = np.argsort(x[:, 1]) if coherent else random.permutation(m)  # a part of the target, or rows anywhere
        features = random.normal(size=(n, 3)), random.normal(size=(m, 3)) + 1
        of_target = logits(target, accuracy, order)
        made.append(
            Evidence(
                features[0],
                logits(y, source, random.permutation(n)),
                y,
                features[1],
                of_target,
                source_clusters=found[0],
                crowd_clusters=found[1],
                crowd_classes=of_target.argmax(1),
            )
        )
    return made


def truth(m=300):
    rows = np.random.default_rng(99)
    rows.integers(2, size=300)
    return rows.integers(2, size=m)


def test_agreeing_certain_trainings_are_held_for_better_than_disagreeing_ones():
    good, poor = estimate(trainings(0.95)), estimate(trainings(0.6, coherent=False))
    assert good.accuracy > poor.accuracy + 0.1
    assert good.high - good.low < poor.high - poor.low
    for e in (good, poor):
        assert 0 <= e.low <= e.accuracy <= e.high <= 1


def test_one_training_alone_makes_a_wider_interval():
    several, alone = estimate(trainings(0.9)), estimate(trainings(0.9, seeds=1))
    assert alone.high - alone.low > several.high - several.low


def test_the_same_evidence_gives_the_same_estimate():
    assert estimate(trainings(0.8)) == estimate(trainings(0.8))


@pytest.mark.parametrize(("n", "m"), [(19, 300), (300, 19)])
def test_too_few_rows_give_no_interval(n, m):
    with pytest.raises(ValueError, match="an interval needs 20 held-out rows of each domain"):
        estimate(trainings(0.9, n=n, m=m))
    made = assess({"source-only": trainings(0.9, n=n, m=m), "dann": trainings(0.9, n=n, m=m)})
    assert made.decision == "cannot tell"
    assert made.choice == "source-only"
    assert "too few" in made.sentence


def test_estimates_ask_for_clusters():
    bare = [replace(e, source_clusters=None) for e in trainings(0.9)]
    with pytest.raises(ValueError, match="structure=True"):
        estimate(bare)


def test_a_method_whose_classes_follow_the_target_is_taken():
    made = assess({"source-only": trainings(0.7, coherent=False), "dann": trainings(0.97), "mcc": trainings(0.8)})
    assert (made.decision, made.choice) == ("adapt", "dann")
    e, own = made.estimates["dann"], made.estimates["source-only"]
    assert made.sentence == (
        f"adapt with dann: estimated target accuracy {e.accuracy:.2f} [{e.low:.2f}, {e.high:.2f}] against "
        f"{own.accuracy:.2f} [{own.low:.2f}, {own.high:.2f}] source-only"
    )
    assert any(
        reason.startswith("dann: its classes follow clusters of the target's inputs by") for reason in made.reasons
    )


def test_a_choice_that_the_estimates_do_not_explain_says_what_does():
    poor, better_shape = trainings(0.88, coherent=False, sure=9.0), trainings(0.91, sure=2.0)
    made = assess({"source-only": poor, "dann": better_shape})
    assert made.choice == "dann"
    lower = made.estimates["dann"].accuracy <= made.estimates["source-only"].accuracy
    assert ("its classes follow the target's own structure better" in made.sentence) == lower


def test_what_contradicts_the_leader_is_held_for_less_right():
    good, sure = trainings(0.95), trainings(0.7)
    alone, beside = estimate(sure).accuracy, assess({"source-only": sure, "dann": good}).estimates["source-only"]
    assert beside.parts["leader"] == pytest.approx(0.75, abs=0.01)  # as often as their classes are the same
    assert abs(beside.accuracy - 0.7) < abs(alone - 0.7)
    assert 0 <= beside.low <= 0.7 <= beside.high <= 1


def test_the_leader_counts_as_much_as_it_follows_the_clusters():
    candidates = {"source-only": trainings(0.7), "dann": trainings(0.95)}
    own = {name: estimate(found) for name, found in candidates.items()}
    made = assess(candidates).estimates
    trust = own["dann"].parts["relative"]
    pairs = [(a.crowd_classes, b.crowd_classes) for a in candidates["dann"] for b in candidates["source-only"]]
    share = np.mean([a == b for a, b in pairs])
    assert share < own["source-only"].parts["source"]
    for k in range(3):
        by_leader = share * (1 - 0.25 * (1 - own["dann"].accuracy)) + own["dann"][k] - own["dann"].accuracy
        mixed = (1 - trust) * own["source-only"][k] + trust * by_leader
        apart = 1 - share  # accuracies cannot differ by more
        assert made["source-only"][k] == pytest.approx(np.clip(mixed, own["dann"][k] - apart, own["dann"][k] + apart))
        assert made["dann"][k] == own["dann"][k]


def test_a_leader_whose_clusters_tell_nothing_does_not_count():
    random = np.random.default_rng(0)
    blind = lambda found: [replace(e, source_clusters=random.integers(2, size=300)) for e in found]  # noqa: E731
    poor, good = blind(trainings(0.7)), blind(trainings(0.95))
    made = assess({"source-only": poor, "dann": good}).estimates
    assert not made["dann"].parts["told"]
    assert made["source-only"][:3] == estimate(poor)[:3]


def test_a_method_that_is_ruled_out_does_not_lead():
    candidates = {"source-only": trainings(0.7), "dann": trainings(0.95)}
    made = assess(candidates, alarms={"dann": ["collapse"]}).estimates
    assert made["source-only"] == (*estimate(candidates["source-only"])[:3], made["source-only"].parts)
    assert made["source-only"].parts["leader"] == 1


def test_source_only_is_kept_where_nothing_is_better():
    made = assess({"source-only": trainings(0.95), "dann": trainings(0.95, seed=1)})
    assert (made.decision, made.choice) == ("keep", "source-only")
    assert made.sentence.startswith("keep source-only: estimated target accuracy 0.")


def test_a_method_that_forgets_the_source_is_ruled_out():
    made = assess({"source-only": trainings(0.9, coherent=False), "dann": trainings(0.99, source=0.7)})
    assert made.choice == "source-only"
    assert "dann is ruled out: accuracy on the source is 0.70, with source-only 0.95" in made.reasons


def test_a_guards_alarm_rules_out():
    candidates = {"source-only": trainings(0.7, coherent=False), "dann": trainings(0.97)}
    made = assess(candidates, alarms={"dann": ["the target's rows get 1.0 classes in effect"]})
    assert made.choice == "source-only"
    assert "dann is ruled out: the target's rows get 1.0 classes in effect" in made.reasons


def test_clusters_that_tell_nothing_decide_nothing():
    random = np.random.default_rng(0)
    anywhere = random.integers(2, size=300)
    of = lambda accuracy: [replace(e, crowd_clusters=anywhere) for e in trainings(accuracy)]  # noqa: E731
    made = assess({"source-only": of(0.9), "dann": of(0.95)})
    assert (made.decision, made.choice) == ("cannot tell", "source-only")
    assert f"label about {made.rows_to_label} target rows" in made.sentence
    assert "clusters of the inputs say little about classes here" in made.reasons


def test_a_source_that_was_not_learned_decides_nothing():
    made = assess({"source-only": trainings(0.7, source=0.5, coherent=False), "dann": trainings(0.97, source=0.5)})
    assert (made.decision, made.choice) == ("cannot tell", "source-only")
    assert any(reason.startswith("source-only has not learned the source") for reason in made.reasons)
    candidates = {"source-only": trainings(0.7, source=0.7, coherent=False), "dann": trainings(0.97, source=0.7)}
    assert assess(candidates).decision == "adapt"


def test_a_rare_class_that_is_found_has_been_learned():
    y = np.r_[np.ones(3, int), np.zeros(117, int)]
    zeros = np.zeros((120, 1))
    assert by_chance(Evidence(zeros, np.eye(2)[y], y, zeros, np.eye(2)[y])) < 0.001
    assert by_chance(Evidence(zeros, np.eye(2)[0 * y], y, zeros, np.eye(2)[y])) == 1


def test_clusters_that_have_nothing_to_do_with_the_sources_labels_decide_nothing():
    random = np.random.default_rng(0)
    blind = lambda found: [replace(e, source_clusters=random.integers(2, size=300)) for e in found]  # noqa: E731
    made = assess({"source-only": blind(trainings(0.7, coherent=False)), "dann": blind(trainings(0.97))})
    assert (made.decision, made.choice) == ("cannot tell", "source-only")
    assert "clusters of the source's inputs say nothing about its labels" in made.reasons


def test_nobody_is_told_to_adapt_where_the_interval_holds_everything(monkeypatch):
    candidates = {"source-only": trainings(0.7, coherent=False), "dann": trainings(0.97)}
    assert assess(candidates).decision == "adapt"
    monkeypatch.setattr("dann.assessment.SEVERAL_WIDTH", 50.0)
    made = assess(candidates)
    assert made.estimates["dann"].high - made.estimates["dann"].low > 0.9
    assert (made.decision, made.choice) == ("cannot tell", "source-only")
    assert any(reason.startswith("dann: the signs leave everything between") for reason in made.reasons)


def test_one_candidate_gets_an_estimate_and_no_choice():
    made = assess({"this model": trainings(0.9)}, baseline="this model")
    assert made.sentence.startswith("this model: estimated target accuracy 0.")


def test_a_few_labels_make_the_interval_tighter_and_move_the_estimate():
    known = np.arange(0, 300, 6)
    evidence = trainings(0.6, coherent=False, sure=8.0)
    blind = assess({"source-only": evidence, "dann": trainings(0.61, coherent=False)})
    told = assess({"source-only": evidence, "dann": trainings(0.61, coherent=False)}, labelled=(known, truth()[known]))
    before, after = blind.estimates["source-only"], told.estimates["source-only"]
    right = np.mean([np.mean(e.target_predicted[known] == truth()[known]) for e in evidence])
    assert after.high - after.low < before.high - before.low
    assert abs(after.accuracy - right) < abs(before.accuracy - right)
    assert any("50 labels make the interval" in reason for reason in told.reasons)


def test_labels_overrule_a_wrong_choice():
    """Clusters do not see that classes are swapped; fifty labels do."""
    swapped = [
        replace(e, target_logits=e.target_logits[:, ::-1], crowd_classes=1 - e.crowd_classes) for e in trainings(1.0)
    ]
    candidates = {"source-only": trainings(0.85, coherent=False), "dann": swapped}
    assert assess(candidates).choice == "dann"
    known = np.arange(0, 300, 6)
    told = assess(candidates, labelled=(known, truth()[known]))
    assert (told.decision, told.choice) == ("keep", "source-only")


def test_enough_labels_end_the_doubt():
    random = np.random.default_rng(0)
    anywhere = random.integers(2, size=300)
    of = lambda accuracy: [replace(e, crowd_clusters=anywhere) for e in trainings(accuracy)]  # noqa: E731
    candidates = {"source-only": of(0.85), "dann": of(0.75)}
    assert assess(candidates).decision == "cannot tell"
    for n in (assess(candidates).rows_to_label, 300):
        told = assess(candidates, labelled=(np.arange(n), truth()[:n]))
        assert (told.decision, told.choice) == ("keep", "source-only")


def test_clusters_that_tell_nothing_of_the_source_are_no_sign_and_leave_more_open():
    random = np.random.default_rng(0)
    anywhere = random.integers(2, size=300)
    informed, not_so = trainings(0.95), [replace(e, source_clusters=anywhere) for e in trainings(0.95)]
    assert estimate(not_so).accuracy <= estimate(informed).accuracy
    assert estimate(not_so).accuracy - estimate(not_so).low > 1.5 * (
        estimate(informed).accuracy - estimate(informed).low
    )


@pytest.mark.parametrize("weak", ["atc", "agreement"])
def test_without_clusters_the_other_signs_make_the_interval(weak):
    parts = {"told": 0.0, "source-ami": 0.0, "input-ami": 0.8, "atc": 0.9, "agreement": 0.9, "relative": 0.1}
    assert assessment.left_open(parts) == pytest.approx(0.35)
    assert assessment.left_open({**parts, weak: 0.4}) == pytest.approx(0.85)


def uninformed(accuracy, *, wrong=0, m=2000):
    """Evidence whose clusters are anywhere, of trainings that are alike but for the first target rows."""
    anywhere = np.random.default_rng(0).integers(2, size=300 + m)
    made = []
    for e in trainings(accuracy, m=m):
        logits = e.target_logits.copy()
        logits[:wrong] = logits[:wrong, ::-1]
        alike = {"target_logits": logits, "crowd_classes": logits.argmax(1)}
        made.append(replace(e, source_clusters=anywhere[:300], crowd_clusters=anywhere[300:], **alike))
    return made


@pytest.mark.parametrize(
    ("wrong", "m", "decision"), [(80, 2000, "keep"), (95, 2000, "cannot tell"), (0, 50, "cannot tell")]
)
def test_source_only_is_kept_where_no_method_can_be_much_better(wrong, m, decision):
    """Of few rows nothing follows, even where models agree about them all."""
    made = assess({"source-only": uninformed(0.9, m=m), "dann": uninformed(0.9, wrong=wrong, m=m)})
    assert (made.decision, made.choice) == (decision, "source-only")
    most = beta.ppf(0.95, wrong + 1, m - wrong)
    says = (
        f"dann differs most from source-only, on {wrong / m:.1%} of {m} target rows: no method can be better, or worse,"
    )
    assert (f"{says} by more than {most:.1%}" in made.reasons) == (decision == "keep")
    assert ("clusters of the inputs say little about classes here" in made.reasons) == (decision == "cannot tell")


def test_one_method_that_differs_is_enough_for_not_being_able_to_tell():
    candidates = {"source-only": uninformed(0.9), "dann": uninformed(0.9), "mcc": uninformed(0.9, wrong=400)}
    assert assess(candidates).decision == "cannot tell"
    assert assess(candidates, alarms={"mcc": ["it fell"]}).decision == "keep"


def test_a_source_that_was_not_learned_is_no_case_for_keeping_its_model():
    blind = [replace(e, source_logits=np.eye(2)[np.zeros(300, int)]) for e in uninformed(0.9)]
    made = assess({"source-only": blind, "dann": blind})
    assert made.decision == "cannot tell"
    assert any("has not learned the source" in reason for reason in made.reasons)


def test_a_wide_interval_is_no_doubt_where_models_are_alike(monkeypatch):
    candidates = {"source-only": uninformed(0.9), "dann": uninformed(0.9)}
    monkeypatch.setattr("dann.assessment.SEVERAL_WIDTH", 50.0)
    made = assess(candidates)
    assert made.estimates["source-only"][1:3] == (0.0, 1.0)
    assert made.decision == "keep"


def test_what_follows_the_clusters_better_is_taken_however_alike_models_are():
    own, better_one = trainings(0.92, m=2000), trainings(0.95, m=2000)
    assert assessment.alike({"source-only": own, "dann": better_one}, ["source-only", "dann"])
    assert assess({"source-only": own, "dann": better_one}).decision == "adapt"


def test_poor_clusters_of_the_source_leave_more_open():
    sound = trainings(0.95)
    poor = [replace(e, source_clusters=np.random.default_rng(0).permutation(e.source_y)) for e in sound]
    for e in poor:  # two of three rows are in a cluster of their class
        e.source_clusters[:200] = e.source_y[:200]
    sure, unsure = estimate(sound), estimate(poor)
    assert 0.05 < unsure.parts["source-ami"] < 0.4 < unsure.parts["input-ami"]
    assert unsure.parts["relative"] == 1  # "as well as the source's", which is not known here
    left = 1 - np.sqrt(unsure.parts["source-ami"] / unsure.parts["input-ami"])
    assert unsure.accuracy - unsure.low == pytest.approx(assessment.SEVERAL_WIDTH * (0.03 + left), abs=0.02)
    assert unsure.accuracy - unsure.low > 1.5 * (sure.accuracy - sure.low)


def test_clusters_of_more_source_rows_count_where_they_are_better():
    e = trainings(0.95)
    poor = np.random.default_rng(0).permutation(e[0].source_y)
    crowd = {"source_crowd_clusters": e[0].source_clusters, "source_crowd_y": e[0].source_y}
    few = [replace(one, source_clusters=poor) for one in e]
    many = [replace(one, source_clusters=poor, **crowd) for one in e]
    worse = [replace(one, source_crowd_clusters=poor, source_crowd_y=e[0].source_y) for one in e]
    assert not estimate(few).parts["told"]
    assert estimate(many) == estimate(e) == estimate(worse)


def test_alarms_of_the_baseline_are_told():
    alarm = "accuracy on the source fell to 0.2"
    made = assess({"this model": trainings(0.9)}, baseline="this model", alarms={"this model": [alarm]})
    assert f"this model: {alarm}" in made.reasons


def test_an_update_is_that_of_a_beta_distribution():
    before = estimate(trainings(0.8))
    after = updated(before, right=900.0, n=1000)
    assert after.accuracy == pytest.approx(0.9, abs=0.01)
    assert after.low < 0.9 < after.high
    assert after.high - after.low < 0.04


def test_better_counts_rows_that_only_one_has_right():
    mine, other = np.ones((2, 20), bool), np.ones((2, 20), bool)
    assert better(mine, other) == pytest.approx(0.5)
    other[:, :6] = False
    assert better(mine, other) == pytest.approx(1 - 0.5**7)


def test_the_rows_to_label_follow_from_the_rows_that_differ():
    a, b = trainings(1.0, seeds=1), trainings(0.8, seeds=1)
    share = np.mean(a[0].target_predicted != b[0].target_predicted)
    wanted = share * (1.6448536 / 0.05) ** 2
    large = [replace(a[0], crowd_clusters=np.arange(2000) % 2, crowd_classes=np.arange(2000) % 2)]
    assert labels_needed(large, b) == np.ceil(wanted)
    assert labels_needed(a, b) == np.ceil(wanted / (1 + wanted / 300))  # of 300 rows that there are
    assert labels_needed(a, a) == 10


def test_classes_that_no_held_out_row_has_are_told():
    wider = lambda logits: np.pad(logits, ((0, 0), (0, 1)))  # noqa: E731
    blind = [
        replace(e, source_logits=wider(e.source_logits), target_logits=wider(e.target_logits)) for e in trainings(0.9)
    ]
    made = assess({"source-only": blind})
    assert "1 of the 3 classes have no held-out source row: no figure here tells how right they are" in made.reasons
    assert not any("held-out source row" in reason for reason in assess({"source-only": trainings(0.9)}).reasons)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "plain"}, "there is no 'plain' among the candidates: source-only, dann"),
        ({"labelled": (np.arange(3), np.zeros(2, int))}, "there are 3 labelled rows and 2 labels"),
        ({"labelled": (np.array([300]), np.zeros(1, int))}, "labelled rows must lie in 0 … 299"),
        ({"labelled": ([0, 1], [0, 3])}, "their labels in 0 … 1, or be 2 for classes that the source lacks"),
        ({"labelled": (np.array([0]), np.array([3]))}, "their labels in 0 … 1"),
        ({"labelled": ([4, 4, 5], [0, 0, 1])}, "3 labelled rows are only 2 different ones: name each once"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        assess({"source-only": trainings(0.9), "dann": trainings(0.9)}, **change)


def test_evidence_of_other_rows_is_refused():
    with pytest.raises(ValueError, match="the evidence of 'dann' is of other rows"):
        assess({"source-only": trainings(0.9), "dann": trainings(0.9, m=200)})
    cut = lambda e: replace(e, crowd_clusters=e.crowd_clusters[:99], crowd_classes=e.crowd_classes[:99])  # noqa: E731
    fewer = [cut(e) for e in trainings(0.9)]
    with pytest.raises(ValueError, match="the evidence of 'dann' is of other rows"):
        assess({"source-only": trainings(0.9), "dann": fewer})


def test_a_candidate_without_evidence_is_named():
    with pytest.raises(ValueError, match="'dann' has no evidence"):
        assess({"source-only": trainings(0.9), "dann": []})


def test_the_best_of_several_equals_is_seldom_taken_for_better():
    random, n = np.random.default_rng(0), 100
    hidden, names = np.zeros(n, int), ["source-only", "a", "b", "c", "d"]
    taken = []
    for _ in range(150):
        wrong = {name: (random.random(n) < 0.2).astype(int) for name in names}
        made = {
            name: [Evidence(hidden[:, None], np.eye(2)[w], hidden, hidden[:, None], np.eye(2)[w])]
            for name, w in wrong.items()
        }
        labelled = np.arange(n), hidden
        taken.append(by_labels("keep", "source-only", made, labelled, names[1:], "source-only", 10**6, [])[0])
    assert 0 < np.mean(np.array(taken) == "adapt") < 0.15


def test_constant_features_and_a_class_that_the_target_lacks_are_no_obstacle():
    made = [
        replace(e, target_features=np.ones_like(e.target_features), source_features=np.ones_like(e.source_features))
        for e in trainings(0.9)
    ]
    of_one = [replace(e, target_logits=np.tile([3.0, 0.0], (300, 1))) for e in made]
    assert assess({"source-only": made, "dann": of_one}).choice == "source-only"


def test_the_report_is_json():
    import json

    from dann.runs import plain

    made = assess({"source-only": trainings(0.9), "dann": trainings(0.9)})
    report = json.loads(json.dumps(made.report(), default=plain))
    assert report["estimates"]["dann"]["accuracy"] == made.estimates["dann"].accuracy
    assert report["shift"]["kind"] in ("none", "labels", "inputs", "both")


def test_suggested_rows_are_uncertain_and_from_all_over():
    made = trainings(0.9, seeds=2)
    places = np.repeat(np.arange(3), 100)[:, None] * [[50.0, 0, 0]] + np.random.default_rng(0).normal(size=(300, 3))
    logits = np.tile([5.0, 0.0], (300, 1))
    doubtful = np.array([7, 120, 222])
    logits[doubtful] = 0.0
    made = [replace(e, target_features=places, target_logits=logits) for e in made]
    assert sorted(suggest_labels(made, 3).tolist()) == doubtful.tolist()
    assert len(set(suggest_labels(made, 40).tolist())) == 40


@pytest.mark.parametrize("n", [0, 301])
def test_no_more_rows_are_suggested_than_there_are(n):
    with pytest.raises(ValueError, match=f"n={n} must lie in 1 … 300"):
        suggest_labels(trainings(0.9), n)


def test_no_estimate_is_above_the_accuracy_on_the_source():
    assert estimate(trainings(0.99, source=0.8)).accuracy == pytest.approx(0.8)


def test_who_agrees_with_the_leader_more_than_it_is_right_on_the_source_keeps_its_interval():
    poor = trainings(0.95, source=0.7)
    made = assess({"source-only": poor, "dann": trainings(0.96, source=0.72)}).estimates["source-only"]
    assert made.parts["leader"] > 0.9
    assert made.low < made.accuracy - 0.01


def test_who_agrees_with_the_leader_is_held_for_no_better_than_it_is_on_the_source():
    candidates = {"source-only": trainings(0.85, source=0.7), "dann": trainings(0.96, source=0.72)}
    made = assess(candidates).estimates["source-only"]
    assert made.accuracy <= 0.7 < made.high


def test_accuracies_differ_by_no_more_than_the_models_do():
    for share in (0.5, 0.8, 0.9):
        made = assess({"source-only": trainings(share), "dann": trainings(0.95)}).estimates
        apart = 1 - made["source-only"].parts["leader"]
        assert abs(made["source-only"].accuracy - made["dann"].accuracy) <= apart + 1e-12


def test_where_no_shift_is_seen_a_small_gain_is_held_for_chance(monkeypatch):
    def unshifted(found):
        return [replace(e, target_features=e.source_features) for e in found]

    alike = lambda made, *_: {name: e._replace(accuracy=0.9) for name, e in made.items()}  # noqa: E731
    monkeypatch.setattr(assessment, "beside_leader", alike)  # nor do they speak against it
    better = {"source-only": trainings(0.95), "dann": trainings(0.955)}
    made = assess(better)
    assert made.shift.kind != "none"
    gain = made.estimates["dann"].parts["input-ami"] - made.estimates["source-only"].parts["input-ami"]
    assert 0.01 < gain < 0.05
    assert made.decision == "adapt"
    made = assess({name: unshifted(found) for name, found in better.items()})
    assert made.shift.kind == "none"
    assert made.choice == "source-only"


def test_labels_overrule_a_rule_out_beside_other_candidates_too():
    candidates = {"source-only": trainings(0.6), "good": trainings(0.97, source=0.8), "other": trainings(0.62)}
    rows = np.arange(60)
    for names in (("source-only", "good"), tuple(candidates)):
        made = assess({name: candidates[name] for name in names}, labelled=(rows, truth()[:60]))
        assert any("good is ruled out" in reason for reason in made.reasons)
        assert (made.decision, made.choice) == ("adapt", "good"), names


@pytest.mark.parametrize(("right", "n"), [(1, 10), (10, 100), (30, 50)])
def test_labels_that_contradict_an_estimate_overrule_it(right, n):
    before = Estimate(0.93, 0.86, 0.99, {})
    after = updated(before, right, n)
    assert after.low < right / n < after.high
    assert after.accuracy == pytest.approx(right / n, abs=0.1)
    assert after.parts["contradicted"] > 0.9


def test_labels_that_agree_with_an_estimate_count_on_in_it():
    before = Estimate(0.93, 0.86, 0.99, {})
    after = updated(before, 46, 50)
    deviation = (before.high - before.low) / (2 * norm.ppf(0.95))
    strength = 0.93 * 0.07 / deviation**2 - 1
    assert after.accuracy == pytest.approx((0.93 * strength + 46) / (strength + 50), abs=0.005)
    assert after.parts["contradicted"] < 0.05


def test_a_contradiction_is_told():
    wrong = [
        replace(e, target_logits=e.target_logits[:, ::-1], crowd_classes=1 - e.crowd_classes) for e in trainings(1.0)
    ]
    known = np.arange(0, 300, 10)
    told = assess({"this model": wrong}, baseline="this model", labelled=(known, truth()[known]))
    assert told.estimates["this model"].high < 0.3
    assert any("what can be told without labels is wrong here" in reason for reason in told.reasons)
    right = assess({"this model": trainings(1.0)}, baseline="this model", labelled=(known, truth()[known]))
    assert not any("is wrong here" in reason for reason in right.reasons)


@pytest.mark.parametrize(
    ("below", "gain", "decision"),
    [
        (0.06, 0.2, "cannot tell"),
        (0.01, 0.2, "adapt"),
        (0.01, 0.04, "cannot tell"),
        (-0.01, 0.04, "adapt"),
    ],
)
def test_nobody_is_told_to_adapt_with_what_is_held_for_worse(below, gain, decision, monkeypatch):
    """By much, or with little to speak for it."""
    candidates = {"source-only": trainings(0.85), "dann": trainings(0.97)}
    assert assess(candidates).decision == "adapt"
    own, other = assess(candidates).estimates.values()
    parts = {**other.parts, "input-ami": own.parts["input-ami"] + gain}
    made = {"source-only": own, "dann": other._replace(accuracy=own.accuracy - below, parts=parts)}
    monkeypatch.setattr(assessment, "beside_leader", lambda *_: made)
    told = assess(candidates)
    assert told.decision == decision
    says = "dann: its estimate is below that of source-only, so the signs disagree"
    assert (says in told.reasons) == (decision == "cannot tell")


@pytest.mark.parametrize(("low", "decision"), [(0.31, "keep"), (0.29, "cannot tell")])
def test_an_interval_of_more_than_half_is_no_reason_to_keep_source_only(low, decision, monkeypatch):
    candidates = {"source-only": trainings(0.97), "dann": trainings(0.85)}
    own, other = assess(candidates).estimates.values()
    made = {"source-only": own._replace(low=low, high=0.8), "dann": other}
    monkeypatch.setattr(assessment, "beside_leader", lambda *_: made)
    told = assess(candidates)
    assert told.decision == decision
    says = "source-only: the signs leave everything between 0.29 and 0.80 open"
    assert (says in told.reasons) == (decision == "cannot tell")


def test_where_all_are_ruled_out_the_labels_are_to_tell_of_the_best_of_them():
    candidates = {"source-only": trainings(0.9), "poor": trainings(0.3), "good": trainings(0.85), "bad": trainings(0.4)}
    told = assess(candidates, alarms={name: ["it fell"] for name in ("poor", "good", "bad")})
    assert told.decision == "keep"
    assert told.rows_to_label == labels_needed(candidates["source-only"], candidates["good"])
    assert told.rows_to_label < labels_needed(candidates["source-only"], candidates["bad"])


def test_a_model_of_one_class_is_told():
    rows = np.random.default_rng(1)
    y = (rows.random(300) < 0.05).astype(int)
    rare = [replace(e, source_y=y, target_logits=np.tile([3.0, 0.0], (300, 1))) for e in trainings(0.9)]
    found = assess(
        {"source-only": trainings_of(y, rare), "dann": rare, "mcc": trainings_of(y, trainings(0.9)), "cdan": rare}
    )
    told = [
        reason.split(":")[0] for reason in found.reasons if "takes 100% of the target's rows for one class" in reason
    ]
    assert told == ["dann", "cdan"]


def test_candidates_that_are_ruled_out_are_listed():
    lost = trainings(0.9, source=0.6)
    found = assess({"source-only": trainings(0.7), "dann": lost, "mcc": trainings(0.8)})
    assert found.ruled_out == found.report()["ruled_out"] == ["dann"]
    assert "dann" in found.estimates


def test_an_estimate_that_one_class_alone_would_have_is_told():
    rows = np.random.default_rng(1)
    y = (rows.random(300) < 0.05).astype(int)
    usual = [replace(e, source_y=y, target_logits=np.tile([3.0, 0.0], (300, 1))) for e in trainings(0.9)]
    says = "of the source's rows are of one class: accuracy does not tell it from a model that says that class"
    assert any(says in reason for reason in assess({"source-only": usual}).reasons)
    assert not any(says in reason for reason in assess({"source-only": trainings(0.9)}).reasons)
    known = np.arange(40), np.zeros(40, dtype=int)
    told = assess({"source-only": trainings(0.9)}, labelled=known)
    assert any("1.00 of the labelled rows are of one class" in reason for reason in told.reasons)
    few = assess({"source-only": trainings(0.9)}, labelled=(np.arange(9), np.zeros(9, dtype=int)))
    assert not any("of the labelled rows are of one class" in reason for reason in few.reasons)


def test_rare_classes_are_told_of_the_model_that_is_taken_in_the_end():
    """Labels may choose another than the clusters do."""
    both, one = trainings(0.9), [replace(e, target_logits=np.tile([3.0, 0.0], (300, 1))) for e in trainings(0.9)]
    candidates = {"source-only": trainings(0.3), "dann": both, "mcc": one}
    labelled = np.arange(100), np.zeros(100, dtype=int)
    told = assess(candidates, labelled=labelled)
    assert (told.decision, told.choice) == ("adapt", "mcc")
    assert any("mcc: it takes 100% of the target's rows for one class" in reason for reason in told.reasons)


def trainings_of(y, others):
    """Evidence of a model that tells both classes in the target."""
    return [replace(e, source_y=y) for e in trainings(0.9)][: len(others)]


def test_classes_that_the_target_may_lack_are_told():
    rows = np.random.default_rng(2)
    y = rows.integers(2, size=300)
    sure = np.where((y[:, None] == [0, 1]), 4.0, 0.0)
    one = [
        replace(e, source_y=y, source_logits=sure, target_logits=np.tile([4.0, 0.0], (300, 1))) for e in trainings(0.9)
    ]
    says = "1 of 2 classes: source-only hardly predicts them for the target"
    assert any(says in reason for reason in assess({"source-only": one}).reasons)
    assert not any(says in reason for reason in assess({"source-only": trainings(0.9)}).reasons)


def test_fewer_than_ten_labels_do_not_overturn_a_verdict():
    candidates = {"source-only": trainings(0.85), "dann": trainings(0.97)}
    assert assess(candidates).choice == "dann"
    wrong = np.flatnonzero(candidates["dann"][0].target_predicted != truth())[:2]
    for known in (wrong[:1], wrong):
        told = assess(candidates, labelled=(known, truth()[known]))
        assert (told.decision, told.choice) == ("adapt", "dann")
        assert not any("is wrong here" in reason for reason in told.reasons)


def test_the_interval_has_the_scatter_of_certain_rows(monkeypatch):
    """Of one training, beside no error of the signs: that of a share of so many rows, times the weight of the sign."""
    monkeypatch.setattr(assessment, "ALONE_WIDTH", 0.0)
    for m in (300, 1200):
        made = estimate(trainings(0.7, seeds=1, m=m), rounds=4000)
        share = made.parts["atc"]
        deviation = assessment.ALONE[1] * np.sqrt(share * (1 - share) / m)
        assert deviation > 0.005
        for end in (made.low, made.high):
            assert abs(end - made.accuracy) == pytest.approx(norm.ppf(0.95) * deviation, rel=0.15)


def test_the_interval_has_the_scatter_of_which_trainings_agree(monkeypatch):
    """Beside no error of the signs: two of three trainings agree, the third differs from both on half of the rows."""
    monkeypatch.setattr(assessment, "SEVERAL_WIDTH", 0.0)
    (one,) = trainings(0.6, seeds=1)
    half = np.arange(300) % 2 == 1
    other = replace(one, target_logits=np.where(half[:, None], one.target_logits[:, ::-1], one.target_logits))
    for three in ([one, one, other], [one, other, one], [other, one, one]):
        made = estimate(three)
        assert made.parts["agreement"] == pytest.approx(2 / 3)
        assert made.high < 1
        assert made.high - made.low == pytest.approx(assessment.SEVERAL[2] / 2, abs=0.06)


def test_an_estimate_does_not_depend_on_which_training_comes_first():
    good, poor = trainings(0.95, seeds=1), trainings(0.6, seeds=1, coherent=False, sure=2.0)
    assert estimate([*good, *poor]).accuracy == pytest.approx(estimate([*poor, *good]).accuracy)


@pytest.mark.parametrize("whose", ["this model", "its other seed"])
def test_what_a_guard_said_in_training_rules_a_model_out(whose, make_arrays):
    data, later = make_arrays(80, 70), make_arrays(60, 60, seed=1)
    quick = DomainAdapter("source-only", MLP((8,)), steps=60, batch_size=16, lr=0.01)
    plain, mine, other = (clone(quick).fit(data.x, data.y, data.xt) for _ in range(3))
    alarmed = mine if whose == "this model" else other
    stands, passed = Event("collapse", 9, "one class for all"), Event("source-lost", 3, "the source fell", over=6)
    alarmed.events_ = [passed, stands, Event("dead-adversary", 5, "it does nothing")]
    made = mine.assess(later.x, later.y, later.xt, baseline=plain, others=[other])
    assert [reason for reason in made.reasons if "is ruled" in reason] == ["this model is ruled out: one class for all"]
    plain.events_ = [stands]
    made = mine.assess(later.x, later.y, later.xt, baseline=[plain, plain], others=[other])
    assert made.reasons.count("source-only: one class for all") == 1
    alarmed.events_ = [passed]
    made = mine.assess(later.x, later.y, later.xt, baseline=plain, others=[other])
    assert not any("is ruled" in reason for reason in made.reasons)


def test_suggested_rows_are_one_of_every_part_of_the_target_even_where_one_part_is_the_most_uncertain():
    places = np.repeat(np.arange(3), 100)[:, None] * [[50.0, 0, 0]] + np.random.default_rng(0).normal(size=(300, 3))
    margins = np.repeat([0.0, 1.0, 2.0], 100) + np.random.default_rng(1).permutation(300) / 1000
    logits = np.c_[margins, np.zeros(300)]
    made = [replace(e, target_features=places, target_logits=logits) for e in trainings(0.9)]
    hardest = [k * 100 + np.argmin(margins[k * 100 : (k + 1) * 100]) for k in range(3)]
    assert suggest_labels(made, 3).tolist() == hardest


def test_suggested_rows_lie_where_the_target_is_uncertain_however_large_the_certain_part_is():
    places = np.random.default_rng(0).normal(size=(300, 3))
    places[240:, 0] += 50
    logits = np.tile([20.0, 0.0], (300, 1))
    logits[240:] = 0.0
    made = [replace(e, target_features=places, target_logits=logits) for e in trainings(0.9)]
    assert (suggest_labels(made, 10) >= 240).sum() >= 9


def followed_by(share):
    """Source-only and a method that follow the target's clusters a little, and by ``share`` of the rows more."""
    poor, good = trainings(0.6, coherent=False), trainings(0.97)
    m = len(good[0].target_logits)
    mixed = np.random.default_rng(5).permutation(m) < share * m

    def blend(kind, other):
        logits = np.where(mixed[:, None], kind.target_logits, other.target_logits)
        return replace(kind, target_logits=logits, crowd_classes=logits.argmax(1))

    return {"source-only": poor, "dann": [blend(a, b) for a, b in zip(good, poor, strict=True)]}


def test_clusters_that_are_hardly_followed_by_anyone_are_no_reason_to_adapt():
    decisions = []
    for share in np.linspace(0.1, 1, 10):
        found = assess(followed_by(share))
        parts = [found.estimates[name].parts["input-ami"] for name in ("dann", "source-only")]
        if parts[0] > parts[1] + assessment.UNSEEN_GAIN:
            decisions.append((parts[0], found.decision == "adapt"))
            said = "clusters of the inputs say little about classes here" in found.reasons
            assert said == (parts[0] < assessment.INFORMATIVE)
    assert all(level >= assessment.INFORMATIVE for level, adapts in decisions if adapts)
    assert {adapts for _, adapts in decisions} == {True, False}


@pytest.mark.parametrize(
    ("kind", "decision"),
    [("inputs", "adapt"), ("both", "adapt"), ("unclear", "adapt"), ("none", "cannot tell"), ("labels", "cannot tell")],
)
def test_where_inputs_are_not_seen_to_shift_it_takes_more_to_adapt(kind, decision, monkeypatch):
    """Aligned features are what a change of class shares breaks."""
    real = assessment.diagnose
    monkeypatch.setattr(assessment, "diagnose", lambda evidence: real(evidence)._replace(kind=kind))
    found = assess(followed_by(0.6))
    width = found.estimates["dann"].high - found.estimates["dann"].low
    assert assessment.OPEN < width < assessment.NOTHING
    assert found.decision == decision


@pytest.mark.parametrize(("accuracy", "low", "high"), [(0.85, 0.02, 1.0), (0.75, 0.0, 1.0), (0.15, 0.0, 0.98)])
@pytest.mark.parametrize("n", [10, 20])
def test_labels_that_all_are_right_prove_no_more_than_they_do_where_nothing_was_known(accuracy, low, high, n):
    after = updated(Estimate(accuracy, low, high, {}), n, n)
    assert after.low == pytest.approx(beta.ppf(0.05, n + 1, 1), abs=0.03)


@pytest.mark.parametrize("truth", [0.7, 0.8, 0.85, 0.9])
@pytest.mark.parametrize("n", [10, 20, 40])
def test_after_labels_an_open_interval_holds_the_truth_as_often_as_it_says(truth, n):
    after = [updated(Estimate(0.85, 0.02, 1.0, {}), right, n) for right in range(n + 1)]
    held = [e.low <= truth <= e.high for e in after]
    assert binom.pmf(np.arange(n + 1), n, truth) @ held > 0.85


def test_labels_of_classes_that_the_source_lacks_count_as_wrong():
    seen, rows = {"source-only": trainings(0.9)}, np.arange(100)
    labels = np.where(rows < 40, 2, truth()[:100])
    made = assess(seen, labelled=(rows, labels))
    assert "40 of 100 labelled rows are of classes that the source lacks: no model is right about them" in made.reasons
    right = np.mean([(e.target_predicted[:100] == labels).mean() for e in seen["source-only"]])
    assert abs(made.estimates["source-only"].accuracy - right) < 0.05
    without = assess(seen, labelled=(rows[40:], labels[40:]))
    assert without.estimates["source-only"].accuracy > made.estimates["source-only"].accuracy + 0.2


@pytest.mark.parametrize(("rows", "told"), [(240, False), (2400, True)])
def test_classes_that_chance_may_leave_out_are_not_held_for_missing(rows, told):
    """Of 60 classes, all as frequent, one that the target's predictions lack."""
    codes = np.arange(rows) % 60
    target, logits = np.where(codes == 7, 8, codes), 4.0 * np.eye(60)
    structure = {"source_clusters": codes, "crowd_clusters": codes, "crowd_classes": target}
    seen = [Evidence(logits[codes], logits[codes], codes, logits[target], logits[target], **structure)] * 2
    made = assess({"source-only": seen})
    assert any("1 of 60 classes: source-only hardly predicts them" in reason for reason in made.reasons) is told


def test_rows_on_which_models_differ_come_before_rows_of_which_all_are_unsure():
    """Of these a label tells nothing about which model is right."""
    first, second = trainings(0.9, seeds=1), trainings(0.9, seeds=1)
    sure, unsure = [6.0, 0.0], [1.0, 0.0]
    logits = np.tile(sure, (2, 300, 1))
    logits[:, 100:150] = unsure
    logits[1, 200] = sure[::-1]  # the other class, with as much certainty
    made = [replace(e[0], target_logits=one) for e, one in zip((first, second), logits, strict=True)]
    assert suggest_labels(made, 1).tolist() == [200]


def test_the_signs_have_their_weights():
    """Certain rows, agreeing trainings, followed clusters: each moves the estimate by its own weight."""
    for seeds, weights in ((2, assessment.SEVERAL), (1, assessment.ALONE)):
        made = estimate(trainings(0.8, seeds=seeds, coherent=False, source=1.0))
        signs = [1.0, made.parts["atc"], *[made.parts["agreement"]] * (seeds > 1), made.parts["relative"]]
        assert made.accuracy == pytest.approx(np.dot(weights, signs))
        assert 0 < made.accuracy < 1


@pytest.mark.parametrize("weak", ["atc", "agreement", "relative"])
def test_the_weakest_sign_makes_the_interval_wide(weak):
    parts = {"told": 1.0, "source-ami": 0.9, "input-ami": 0.8, "atc": 0.9, "agreement": 0.9, "relative": 0.9}
    assert assessment.left_open(parts) == pytest.approx(0.13)
    assert assessment.left_open({**parts, weak: 0.4}) == pytest.approx(0.63)


def test_a_method_that_follows_clusters_by_less_than_a_fifth_is_not_taken(monkeypatch):
    candidates = {"source-only": trainings(0.7, coherent=False), "dann": trainings(0.97)}
    made = assess(candidates).estimates
    for level, decision in ((0.19, "cannot tell"), (0.21, "adapt")):
        parts = {"source-only": 0.05, "dann": level}
        low = {name: e._replace(parts={**e.parts, "input-ami": parts[name]}) for name, e in made.items()}
        monkeypatch.setattr(assessment, "beside_leader", lambda *_, low=low: low)
        assert assess(candidates).decision == decision


def test_a_class_that_is_predicted_often_enough_is_not_called_hardly_predicted():
    """However little the weights of a label shift leave of it."""
    rows = np.random.default_rng(0)
    y = rows.integers(2, size=2000)
    of_source, of_target = (np.where((y ^ (rows.random(2000) < 0.4))[:, None] == [0, 1], 2.0, 0.0) for _ in range(2))
    of_target[:400] = [2.0, 0.0]
    structure = {"source_clusters": y, "crowd_clusters": y, "crowd_classes": of_target.argmax(1)}
    made = assess({"source-only": [Evidence(of_source, of_source, y, of_target, of_target, **structure)] * 2})
    assert made.shift.weights[1] < 0.1 < 0.3 < of_target.argmax(1).mean()
    assert not any("hardly predicts" in reason for reason in made.reasons)


def test_labels_are_asked_for_until_every_candidate_is_told():
    """Not until the one that follows the clusters most is told, which may hardly differ from the baseline."""
    candidates = {"source-only": uninformed(0.9), "near": uninformed(0.9, wrong=2), "far": uninformed(0.9, wrong=800)}
    wanted = [labels_needed(candidates["source-only"], candidates[name]) for name in ("near", "far")]
    made = assess(candidates)
    assert made.decision == "cannot tell"
    assert made.rows_to_label == max(wanted) > min(wanted)
    assert assess(candidates, alarms={"far": ["it fell"]}).rows_to_label == min(wanted)


def test_nothing_is_told_as_less_than_nothing():
    made = assess({"source-only": uninformed(0.9), "dann": uninformed(0.9, wrong=400)})
    assert -0.005 < made.estimates["dann"].parts["input-ami"] < 0
    assert any("by 0.00 against 0.00 of source-only" in reason for reason in made.reasons)
    assert not any("-0.00" in reason for reason in made.reasons)
