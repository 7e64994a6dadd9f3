"""Does adapting help, and how right is the model on the target? Evidence of several trainings in, a verdict out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaln, softmax
from scipy.stats import beta, chi2_contingency, norm

from .estimates import passes
from .evidence import CROWD, Evidence
from .shift import Diagnosis, diagnose
from .validators.input_ami import ami, input_ami

LEVEL = 0.9  # of all intervals
ROWS = 20  # of each domain, without which nothing can be told
PRECISION = 0.05  # wanted half width of the interval of a gain, for the number of rows to label
# Fixed on one half of the cases of `dann reproduce judgement`, by `fit` in experiments/judgement.py: weights of 1, of
# ATC, of the trainings' agreement and of how far classes follow clusters; and the width of the interval, which is wider
# than `fit` would make it now: docs/judgement.md says why.
SEVERAL, SEVERAL_WIDTH = (-0.38, 0.15, 0.73, 0.50), 0.80
ALONE, ALONE_WIDTH = (-0.19, 0.66, 0.55), 1.42
LEAST_WIDTH = 0.03
UNTOLD_WIDTH = 0.25  # the same where clusters are no sign
SHARED = 0.25  # of the leader's share of errors, by which those who agree with it are held for less right than agreeing
UNTOLD = 0.05  # mutual information of the source's labels with its clusters, below which clusters are no sign
USUAL = 0.7  # what stands for the sign then
FALL = 0.05  # of source accuracy below source-only's, that rules a method out
GAIN = 0.01  # of the mutual information with the target's clusters above source-only's, from which on a method is taken
UNSEEN_GAIN = 0.05  # the same where no shift is seen, or the estimates say otherwise: less may be chance
INFORMATIVE = 0.2  # mutual information of the best method with the clusters, below which they tell too little
LABELS = 10  # labelled rows, from which on they have a say in the choice
SURE = 0.9
OPEN = 0.5  # width of an interval, from which on it is no reason to keep source-only
NOTHING = 0.9  # width from which on it is none to adapt either where inputs shift: clusters are, with less than that
ABSENT = 0.1  # of a class's share in the source: less may be none
EXPECTED = 5  # target rows of a class, were its share the source's, below which there may be none by chance
MOST = 0.95  # of the target's rows in one predicted class, from which on it is told
CHANCE = 0.05  # of predictions on the source that are independent of its labels to look as they do


class Estimate(NamedTuple):
    """Accuracy on the target, estimated."""

    accuracy: float
    low: float
    high: float
    # "atc", "agreement", "input-ami", "relative" to "source-ami" if "told", "source", "leader", and the probability
    # that labels have "contradicted" them
    parts: dict[str, float]


@dataclass(frozen=True)
class Assessment:
    """What can be told without target labels, or with a few.

    Parameters
    ----------
    decision : str
        "adapt", "keep" source-only, or "cannot tell", after which source-only is kept too.
    choice : str
        Name of the candidate to take.
    sentence : str
        The verdict.
    reasons : list of str
    estimates : dict
        Name of a candidate → `Estimate`; without those that the rows are too few for.
    rows_to_label : int or None
        Target rows, drawn at random, whose labels would tell every candidate's gain to within 5 points.
    shift : Diagnosis or None
    ruled_out : list of str
        Candidates that are not taken, whatever their estimate: an alarm stands, or they have lost the source.
    """

    decision: str
    choice: str
    sentence: str
    reasons: list[str] = field(default_factory=list)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    rows_to_label: int | None = None
    shift: Diagnosis | None = None
    ruled_out: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        estimates = {name: e._asdict() for name, e in self.estimates.items()}
        shift = None if self.shift is None else self.shift._asdict()
        return {**vars(self), "estimates": estimates, "shift": shift}


def estimate(trainings: Sequence[Evidence], *, rounds: int = 200, seed: int = 0) -> Estimate:
    """Estimate the accuracy on the target of trainings that differ in their seed alone.

    A weighted sum of three signs: average thresholded confidence, the agreement of the trainings with each other, and
    how far classes follow clusters of the inputs: the root of the mutual information with them, relative to that of the
    source's labels with the source's clusters, of the held-out rows or of a crowd, whichever is more. It is never above
    the accuracy on the source.
    Its weights were fixed on half of the cases of ``dann reproduce judgement``; docs/judgement.md has its error and the
    coverage of the interval on the other half.

    The interval is that error, wide where a sign is weak, and the scatter over rows and trainings. What no sign can see
    is not in it: a shift that moves one class onto another's place leaves the model sure of itself.

    Parameters
    ----------
    trainings : sequence of Evidence
        Of the same rows, with their structure; one is enough, and makes a wider interval.
    rounds : int
        Draws of rows and trainings.
    seed : int

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        Fewer than 20 rows of a domain, or no clusters in the evidence.

    References
    ----------
    Garg et al., ICLR 2022 (ATC); Jiang et al., ICLR 2022 (agreement).
    """
    first = trainings[0]
    n, m = len(first.source_y), len(first.target_logits)
    if min(n, m) < ROWS:
        raise ValueError(f"an interval needs {ROWS} held-out rows of each domain; there are {n} and {m}")
    if first.crowd_clusters is None or first.source_clusters is None:
        raise ValueError("an estimate needs clusters of the inputs: collect evidence with structure=True")
    predicted = np.stack([e.target_predicted for e in trainings])
    certain = np.stack([passes(e) for e in trainings])
    own = ami(first.source_y, first.source_clusters)
    if first.source_crowd_clusters is not None and first.source_crowd_y is not None:
        own = max(own, ami(first.source_crowd_y, first.source_crowd_clusters))  # few rows may hide their clusters
    followed = np.mean([input_ami(e) for e in trainings])
    told = own >= UNTOLD
    relative = float(np.sqrt(np.clip(followed / own, 0, 1))) if told else USUAL
    pairs = np.array(list(combinations(range(len(trainings)), 2)))
    weights, width = (SEVERAL, SEVERAL_WIDTH) if len(pairs) else (ALONE, ALONE_WIDTH)
    agree = np.stack([predicted[i] == predicted[j] for i, j in pairs]) if len(pairs) else None

    def combined(sure: Any, same: Any) -> Any:
        signs = [1.0, sure, *([] if agree is None else [same]), relative]
        return np.clip(sum(w * s for w, s in zip(weights, signs, strict=True)), 0, 1)

    atc, agreement = certain.mean(), 1.0 if agree is None else agree.mean()
    source = np.mean([e.source_right.mean() for e in trainings])
    accuracy = min(float(combined(atc, agreement)), float(source))
    random = np.random.default_rng(seed)
    rows = random.multinomial(m, np.full(m, 1 / m), size=rounds) / m
    of = lambda signs: (rows @ signs.T.astype(float))[np.arange(rounds), random.integers(len(signs), size=rounds)]  # noqa: E731
    drawn = combined(of(certain), 1.0 if agree is None else of(agree))
    scatter = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - np.median(drawn)
    parts = {"atc": atc, "agreement": agreement, "input-ami": followed, "source-ami": own, "relative": relative}
    parts |= {"told": told, "source": source}
    error = width * left_open(parts)
    low, high = accuracy - math.hypot(error, scatter[0]), accuracy + math.hypot(error, scatter[1])
    return Estimate(accuracy, max(low, 0.0), min(high, 1.0), {name: float(v) for name, v in parts.items()})


def left_open(parts: Mapping[str, float]) -> float:
    """Return how much the signs of an estimate leave open, from .03 to 1.25: what the weakest of them lacks to 1.

    Predictions that follow the target's clusters more than the source's labels do the source's show that these clusters
    are poor, and what is relative to them a weak sign. Where clusters are none, .22 more is open.
    """
    if not parts["told"]:
        return 1 + UNTOLD_WIDTH - min(parts["atc"], parts["agreement"])
    own, followed = parts["source-ami"], parts["input-ami"]
    beyond = math.sqrt(own / followed) if followed > own else 1.0
    return 1 + LEAST_WIDTH - min(parts["atc"], parts["agreement"], parts["relative"], beyond)


def assess(
    candidates: Mapping[str, Sequence[Evidence]],
    *,
    baseline: str = "source-only",
    alarms: Mapping[str, Sequence[str]] | None = None,
    labelled: tuple[np.ndarray, np.ndarray] | None = None,
) -> Assessment:
    """Say whether to adapt, with which candidate, and how right it will be.

    A candidate is ruled out if an alarm of a guard stands, or if its accuracy on the source is more than .05 below the
    baseline's. Of the others the one is taken whose classes follow the clusters of the target's inputs most (see the
    validator "input-ami"), if that is .01 more than the baseline's, or .05 where no shift is seen or its estimate is
    below the baseline's, which it may be by .05 at most. Certainty does not choose: methods that train for it always
    have it. Estimates of the others are corrected by how often they agree with the one that follows most, see
    `beside_leader`. docs/judgement.md says how often this is right.

    Parameters
    ----------
    candidates : mapping of str to sequence of Evidence
        Name → trainings that differ in their seed alone, all of the same rows, with their structure. One of them is the
        baseline; where it is alone, only its estimate can be told.
    baseline : str
    alarms : mapping of str to sequence of str, optional
        Name → what guards said.
    labelled : tuple of ndarray, optional
        Numbers of different target rows of the evidence, and their class codes: a few labels that the user has. The
        number of classes stands for any that the source lacks. They make the estimates tighter, and from ten of them on
        they can overrule the choice. The result is no oracle's: use these rows for nothing else.

    Returns
    -------
    Assessment

    Raises
    ------
    ValueError
        No baseline among the candidates, evidence of different rows, labels that do not fit.
    """
    if baseline not in candidates:
        raise ValueError(f"there is no {baseline!r} among the candidates: {', '.join(candidates)}")
    rows, y = (np.asarray(part) for part in labelled or (np.empty(0, int), np.empty(0, int)))
    labelled, looked = (rows, y), len(rows)
    check(candidates, labelled)
    reference = candidates[baseline][0]
    n, m = len(reference.source_y), len(reference.target_logits)
    if min(n, m) < ROWS:
        few = f"cannot tell: {n} held-out source rows and {m} target rows are too few, each needs {ROWS}"
        return Assessment("cannot tell", baseline, f"{few}. Keep {baseline}.", rows_to_label=ROWS)
    estimates = {name: estimate(trainings) for name, trainings in candidates.items()}
    ruled_out = {
        name: why for name in candidates if name != baseline and (why := flaws(estimates, name, baseline, alarms))
    }
    estimates = beside_leader(estimates, candidates, [name for name in candidates if name not in ruled_out])
    reasons, blind = [], estimates
    if strangers := int((y == reference.n_classes).sum()):
        reasons.append(
            f"{strangers} of {looked} labelled rows are of classes that the source lacks: no model is right about them"
        )
    if looked:
        estimates = dict(estimates)
        for name, trainings in candidates.items():
            before, right = estimates[name], right_of(trainings, labelled)
            estimates[name] = after = updated(before, right.sum(1).mean(), right.shape[1])
            widths = [e.high - e.low for e in (before, after)]
            reasons.append(f"{name}: {looked} labels make the interval {widths[1]:.2f} wide instead of {widths[0]:.2f}")
            if after.parts["contradicted"] > 0.5 and looked >= LABELS:
                reasons.append(
                    f"{name}: {right.mean():.2f} of them are right, and {before.accuracy:.2f} was the estimate: what "
                    "can be told without labels is wrong here"
                )
    reasons += [f"{name} is ruled out: {'; '.join(why)}" for name, why in ruled_out.items()]
    reasons += of_one_class({name: e for name, e in candidates.items() if name not in ruled_out}, baseline)
    own = estimates[baseline].parts["input-ami"]
    gains = {name: e.parts["input-ami"] - own for name, e in estimates.items() if name not in {*ruled_out, baseline}}
    best = max(gains, key=gains.__getitem__, default=None)
    shift = diagnose(reference)
    reasons += shift.sentences()
    expected = np.bincount(reference.source_y, minlength=reference.n_classes) * (m / n)
    predicted = np.mean([np.bincount(e.target_predicted, minlength=e.n_classes) for e in candidates[baseline]], 0)
    if gone := int(((expected >= EXPECTED) & (predicted < ABSENT * expected)).sum()):
        reasons.append(
            f"{gone} of {reference.n_classes} classes: {baseline} hardly predicts them for the target; if the target "
            "lacks them, the clusters, as many as there are classes, mislead, and so may this verdict"
        )
    unseen = reference.n_classes - len(np.unique(reference.source_y))
    if unseen:
        of = f"{unseen} of the {reference.n_classes} classes"
        reasons.append(f"{of} have no held-out source row: no figure here tells how right they are")
    reasons += [f"{baseline}: {alarm}" for alarm in (alarms or {}).get(baseline, ())]
    settled = False
    if best is None:
        rival = max(
            (name for name in candidates if name != baseline), key=lambda k: estimates[k].accuracy, default=None
        )
        decision, choice = "keep", baseline
    else:
        rival = best
        level = estimates[best].parts["input-ami"]
        sides = f"{level:z.2f} against {own:z.2f} of {baseline}"
        least = UNSEEN_GAIN if shift.kind == "none" else GAIN
        short = f"; to adapt takes {least} more" + " where no shift is seen" * (shift.kind == "none")
        reasons.append(
            f"{best}: its classes follow clusters of the target's inputs by {sides} (adjusted mutual information)"
            + short * (0 < gains[best] <= least)
        )
        decision, choice = ("adapt", best) if gains[best] > least else ("keep", baseline)
        found = doubts(estimates[best])
        if decision == "adapt":
            signs = estimates if looked >= LABELS else blind
            most = NOTHING if shift.kind in ("inputs", "both", "unclear") else OPEN
            found += open_signs(signs[best], best, most) + behind(signs, best, baseline)
        if (found or decision == "keep") and (close := alike(candidates, [baseline, *gains])):
            decision, choice, found, settled = "keep", baseline, [], True
            reasons += close
        found += unlearned(candidates[baseline], baseline)
        if found:
            decision, choice, settled = "cannot tell", baseline, False
            reasons += found
    open_ones = [] if rival is None else [*gains] or [rival]
    needed = max((labels_needed(candidates[baseline], candidates[name]) for name in open_ones), default=None)
    if rival is not None and needed is not None and looked >= LABELS:
        rivals = [rival, *gains, *ruled_out]
        decision, choice = by_labels(decision, choice, candidates, labelled, rivals, baseline, needed, reasons)
    told = choice if choice != baseline or best is None else best
    reasons += of_rare_classes(told, candidates, estimates[told].accuracy, labelled)
    wide = [] if settled else open_signs(estimates[choice], choice, OPEN)
    if decision == "keep" and rival is not None and wide:
        decision = "cannot tell"
        reasons += wide
    sentence = said(decision, choice, baseline, estimates, needed)
    return Assessment(decision, choice, sentence, reasons, estimates, needed, shift, list(ruled_out))


def doubts(best: Estimate) -> list[str]:
    """Return why clusters cannot tell which method is better, from the best's estimate."""
    found = []
    if best.parts["input-ami"] < INFORMATIVE:
        found.append("clusters of the inputs say little about classes here")
    if not best.parts["told"]:
        found.append("clusters of the source's inputs say nothing about its labels")
    return found


def unlearned(trainings: Sequence[Evidence], baseline: str) -> list[str]:
    """Return that the baseline says of the source what chance might, if it does."""
    if max(map(by_chance, trainings)) <= CHANCE:
        return []
    y = trainings[0].source_y
    right, most = np.mean([e.source_right for e in trainings]), np.bincount(y).max() / len(y)
    return [
        f"{baseline} has not learned the source: its predictions of held-out rows have nothing to do with their "
        f"labels ({right:.2f} are right, the most frequent class makes up {most:.2f}); train longer, or otherwise"
    ]


def alike(candidates: Mapping[str, Sequence[Evidence]], names: Sequence[str]) -> list[str]:
    """Return that all candidates agree with the first so often that none can be much better, if they do.

    Accuracies differ by no more than the share of rows on which models do: its upper limit (Clopper & Pearson 1934), so
    that of few rows nothing follows, is `PRECISION` at most, to within which labels would tell.
    """
    baseline, *others = names
    rows = len(candidates[baseline][0].crowd_classes)  # type: ignore[arg-type]
    share, name = max((differing(candidates[baseline], candidates[other]), other) for other in others)
    most = float(beta.ppf((1 + LEVEL) / 2, share * rows + 1, (1 - share) * rows)) if share < 1 else 1.0
    if most > PRECISION:
        return []
    return [
        f"{name} differs most from {baseline}, on {share:.1%} of {rows} target rows: no method can be better, or "
        f"worse, by more than {most:.1%}"
    ]


def differing(some: Sequence[Evidence], others: Sequence[Evidence]) -> float:
    """Return the share of the target's crowd on which two candidates' trainings differ, a mean over pairs of them."""
    return float(np.mean([a.crowd_classes != b.crowd_classes for a, b in product(some, others)]))


def by_chance(evidence: Evidence) -> float:
    """Return the p-value of predictions on the source being independent of labels: the chi-squared test."""
    table = np.zeros((evidence.n_classes, evidence.n_classes))
    np.add.at(table, (evidence.source_logits.argmax(1), evidence.source_y), 1)
    return float(chi2_contingency(table[table.any(1)][:, table.any(0)]).pvalue)


def open_signs(estimate: Estimate, name: str, width: float) -> list[str]:
    """Return that an interval is wider than some width, if it is."""
    low, high = estimate.low, estimate.high
    return [f"{name}: the signs leave everything between {low:.2f} and {high:.2f} open"] if high - low > width else []


def behind(estimates: Mapping[str, Estimate], name: str, baseline: str) -> list[str]:
    """Return that a candidate's estimate is below the baseline's, clearly or with little to speak for the candidate."""
    mine, own = estimates[name], estimates[baseline]
    little = mine.parts["input-ami"] - own.parts["input-ami"] < UNSEEN_GAIN
    below = mine.accuracy < own.accuracy - (0.0 if little else FALL)
    return [f"{name}: its estimate is below that of {baseline}, so the signs disagree"] if below else []


def one_class(trainings: Sequence[Evidence]) -> float:
    """Return the share of target rows that the most frequent prediction has, a mean over trainings."""
    return float(np.mean([np.bincount(e.target_predicted).max() / len(e.target_predicted) for e in trainings]))


def of_one_class(candidates: Mapping[str, Sequence[Evidence]], baseline: str) -> list[str]:
    """Return which candidates take nearly all rows of the target for one class, where the baseline is one of them."""
    y = candidates[baseline][0].source_y
    most, other = np.bincount(y).max() / len(y), one_class(candidates[baseline])
    shares = {name: one_class(trainings) for name, trainings in candidates.items() if name != baseline}
    return [
        f"{name}: it takes {share:.0%} of the target's rows for one class, {baseline} {other:.0%}, and "
        f"{most:.0%} of the source are of one: look at the rare classes"
        for name, share in shares.items()
        if share > MOST
    ]


def of_rare_classes(
    name: str,
    candidates: Mapping[str, Sequence[Evidence]],
    accuracy: float,
    labelled: tuple[np.ndarray, np.ndarray],
) -> list[str]:
    """Return whether a candidate is estimated to be no better than a model that says one class of every row."""
    found = []
    y = candidates[name][0].source_y
    most, whose = np.bincount(y).max() / len(y), "the source's rows"
    if len(labelled[1]) >= LABELS:
        counts = np.bincount(labelled[1])[: candidates[name][0].n_classes]
        most, whose = counts.max() / len(labelled[1]), "the labelled rows"
    if accuracy <= most:
        found.append(
            f"{name}: its estimate is {accuracy:.2f}, and {most:.2f} of {whose} are of one class: accuracy does not "
            "tell it from a model that says that class of every row"
        )
    return found


def beside_leader(
    estimates: Mapping[str, Estimate], candidates: Mapping[str, Sequence[Evidence]], eligible: Sequence[str]
) -> dict[str, Estimate]:
    """Correct estimates by how often the candidates agree with the one whose classes follow the target's clusters most.

    The classes of that one, the leader, stand for the labels: a candidate is held for right where it agrees with it,
    but for a quarter of the leader's share of errors, with the leader's interval around that. This counts as much as
    the leader follows the clusters of the target, relative to the source's labels with the source's; the candidate's
    own signs count for the rest. Nor can accuracies differ by more than the share of rows on which two models do.

    Parameters
    ----------
    estimates : mapping of str to Estimate
        By each candidate's own signs.
    candidates : mapping of str to sequence of Evidence
    eligible : sequence of str
        Those that may lead.

    Returns
    -------
    dict
        With the share of agreement as "leader" in the parts.
    """
    leader = max(eligible, key=lambda name: estimates[name].parts["input-ami"])
    theirs = np.array(estimates[leader][:3])
    trust = estimates[leader].parts["relative"] if estimates[leader].parts["told"] else 0.0
    found = {}
    for name, own in estimates.items():
        same = 1.0 if name == leader else 1 - differing(candidates[name], candidates[leader])
        mixed = np.array(own[:3])
        if name != leader:
            right = same * (1 - SHARED * (1 - theirs[0]))
            most = min(right, own.parts["source"])  # the upper end alone may be above the accuracy on the source
            mixed = (1 - trust) * mixed + trust * np.clip(np.array([most, most, right]) + theirs - theirs[0], 0, 1)
            mixed = np.clip(mixed, theirs - (1 - same), theirs + (1 - same)).clip(0, 1)
        accuracy, low, high = mixed.tolist()
        found[name] = Estimate(accuracy, low, high, {**own.parts, "leader": same})
    return found


def by_labels(
    decision: str,
    choice: str,
    candidates: Mapping[str, Sequence[Evidence]],
    labelled: tuple[np.ndarray, np.ndarray],
    rivals: Sequence[str],
    baseline: str,
    needed: int,
    reasons: list[str],
) -> tuple[str, str]:
    """Return decision and choice after a look at labelled rows; ``rivals`` are in the order of preference."""
    own = right_of(candidates[baseline], labelled)
    sure = {name: better(right_of(candidates[name], labelled), own) for name in dict.fromkeys(rivals)}
    best = max(sure, key=sure.__getitem__)
    enough = 1 - (1 - SURE) / len(sure)  # the best of several is often better by chance
    if sure[best] > enough and sure.get(choice, 0.0) <= SURE:
        decision, choice = "adapt", best
        looked = f", the best of {len(sure)}" if len(sure) > 1 else ""
        reasons.append(f"{best} is better than {baseline} on the labelled rows (probability {sure[best]:.2f}{looked})")
    elif choice in sure and sure[choice] < 1 - SURE:
        reasons.append(f"{baseline} is better than {choice} on the labelled rows (probability {1 - sure[choice]:.2f})")
        decision, choice = "keep", baseline
    elif choice == baseline and (sure[best] < 1 - SURE or own.shape[1] >= needed):
        decision = "keep"
        reasons.append(f"no candidate is surely better than {baseline} on {own.shape[1]} labelled rows")
    return decision, choice


def check(candidates: Mapping[str, Sequence[Evidence]], labelled: tuple[np.ndarray, np.ndarray]) -> None:
    """Raise where the candidates' evidence, or labels, do not fit together."""
    for name, trainings in candidates.items():
        if not len(trainings):
            raise ValueError(f"{name!r} has no evidence: give that of one training or more")
    first = next(iter(candidates.values()))[0]
    sizes = lambda e: (*e.target_logits.shape, None if e.crowd_classes is None else len(e.crowd_classes))  # noqa: E731
    for name, trainings in candidates.items():
        for e in trainings:
            if sizes(e) != sizes(first) or not np.array_equal(e.source_y, first.source_y):
                raise ValueError(f"the evidence of {name!r} is of other rows or classes than that of the others")
    rows, y = labelled
    if len(rows) != len(y):
        raise ValueError(f"there are {len(rows)} labelled rows and {len(y)} labels")
    m, classes = first.target_logits.shape
    if len(rows) and not (rows.min() >= 0 and rows.max() < m and y.min() >= 0 and y.max() <= classes):
        raise ValueError(
            f"labelled rows must lie in 0 … {m - 1} and their labels in 0 … {classes - 1}, or be {classes} for classes "
            "that the source lacks"
        )
    if len(np.unique(rows)) < len(rows):
        raise ValueError(f"{len(rows)} labelled rows are only {len(np.unique(rows))} different ones: name each once")


def flaws(
    estimates: Mapping[str, Estimate], name: str, baseline: str, alarms: Mapping[str, Sequence[str]] | None
) -> list[str]:
    """Return what rules a candidate out."""
    mine, other = estimates[name].parts, estimates[baseline].parts
    low = mine["source"] < other["source"] - FALL
    found = [f"accuracy on the source is {mine['source']:.2f}, with {baseline} {other['source']:.2f}"] if low else []
    return [*(alarms or {}).get(name, ()), *found]


def right_of(trainings: Sequence[Evidence], labelled: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return which labelled rows each training has right, bool (trainings, rows)."""
    rows, y = labelled
    return np.stack([e.target_predicted[rows] == y for e in trainings])


def updated(before: Estimate, right: float, n: int) -> Estimate:
    """Return an estimate after n labelled rows of which some were right.

    Before, it is a beta distribution with the mean and deviation of the estimate or, as often as intervals of that
    level do not hold what is true, it is wrong, and all accuracies are as likely. Labels count on in both, and tell
    which of the two it was.
    """
    deviation = max((before.high - before.low) / (2 * norm.ppf((1 + LEVEL) / 2)), 1e-3)
    mean = min(max(before.accuracy, 0.01), 0.99)
    strength = max(mean * (1 - mean) / deviation**2 - 1, 1.0)
    priors = np.array([[mean * strength, (1 - mean) * strength], [1.0, 1.0]]).clip(min=1.0)  # no peak at 0 or 1
    after = priors + np.array([right, n - right])
    share = softmax(np.log([LEVEL, 1 - LEVEL]) + betaln(*after.T) - betaln(*priors.T))
    at = np.linspace(0, 1, 2001)
    low, high = np.interp([(1 - LEVEL) / 2, (1 + LEVEL) / 2], share @ [beta.cdf(at, *one) for one in after], at)
    accuracy = share @ (after[:, 0] / after.sum(1))
    return Estimate(float(accuracy), float(low), float(high), {**before.parts, "contradicted": float(share[1])})


def better(mine: np.ndarray, other: np.ndarray) -> float:
    """Return the probability that one candidate is right more often than another, from bool (trainings, rows) of each.

    Counts of rows that only one of them has right; a uniform prior on their share.
    """
    gain = mine.mean(0) - other.mean(0)
    won, lost = gain[gain > 0].sum(), -gain[gain < 0].sum()
    return float(beta.sf(0.5, won + 1, lost + 1))


def labels_needed(baseline: Sequence[Evidence], rival: Sequence[Evidence]) -> int:
    """Return how many labelled target rows, drawn at random, tell the gain of a rival to within ``PRECISION``.

    Only rows on which they differ tell anything; the interval of level .9 then has that half width. Of a target that is
    known whole, fewer rows do (Cochran, Sampling Techniques, 1977, section 4.4).
    """
    differ = np.mean([np.mean(a.target_predicted != b.target_predicted) for a in baseline for b in rival])
    wanted = float(differ) * (norm.ppf((1 + LEVEL) / 2) / PRECISION) ** 2
    crowd = baseline[0].crowd_classes
    if crowd is not None and len(crowd) < CROWD:
        wanted /= 1 + wanted / len(crowd)
    return max(LABELS, math.ceil(wanted))


def said(decision: str, choice: str, baseline: str, estimates: Mapping[str, Estimate], needed: int | None) -> str:
    """Return the verdict as one sentence."""
    if len(estimates) == 1:
        decision = "alone"
    about = lambda e: f"{e.accuracy:.2f} [{e.low:.2f}, {e.high:.2f}]"  # noqa: E731
    own = about(estimates[baseline])
    if decision == "adapt":
        both = f"estimated target accuracy {about(estimates[choice])} against {own} {baseline}"
        if estimates[choice].accuracy > estimates[baseline].accuracy:
            return f"adapt with {choice}: {both}"
        return f"adapt with {choice}: its classes follow the target's own structure better; {both}"
    if decision == "alone":
        return f"{choice}: estimated target accuracy {own}"
    if decision == "keep":
        return f"keep {baseline}: estimated target accuracy {own}"
    more = "" if needed is None else f": label about {needed} target rows, drawn at random"
    return f"cannot tell{more}; until then keep {baseline}, estimated target accuracy {own}"


def suggest_labels(trainings: Sequence[Evidence], n: int) -> np.ndarray:
    """Suggest which target rows to label: those that would tell the candidates apart, from all over the target.

    The target's features fall into n clusters; each gives the row on which the trainings differ most, measured by the
    entropy of their mean prediction. Rows chosen so are the harder ones: do not take their accuracy for that of the
    target, `assess` wants rows drawn at random.

    Parameters
    ----------
    trainings : sequence of Evidence
        Of the same rows: candidates of `compare`, for instance.
    n : int
        1 … rows.

    Returns
    -------
    ndarray (n,) int
        Numbers of the evidence's target rows, the most uncertain first.

    Raises
    ------
    ValueError
        More rows than there are, or fewer than one.

    References
    ----------
    Prabhu et al., Active Domain Adaptation via Clustering Uncertainty-weighted Embeddings, ICCV 2021
    (https://arxiv.org/abs/2010.08666): clusters weighted by uncertainty; here several models instead of one.
    """
    import warnings

    from scipy.special import entr
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if not len(trainings):
        raise ValueError("there are no trainings: give the evidence of one or more")
    m = len(trainings[0].target_logits)
    if not 1 <= n <= m:
        raise ValueError(f"n={n} must lie in 1 … {m}, the number of target rows")
    uncertain = entr(np.mean([e.target_probabilities for e in trainings], 0)).sum(1)
    x = trainings[0].target_features
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        cluster = KMeans(n, n_init=1, random_state=0).fit_predict(x, sample_weight=uncertain + 1e-6)
    order = np.argsort(-uncertain, kind="stable")
    first = order[np.unique(cluster[order], return_index=True)[1]]
    rest = order[~np.isin(order, first)]
    chosen = np.concatenate([first, rest])[:n]
    return chosen[np.argsort(-uncertain[chosen], kind="stable")]
