"""Guards: looks at a training, from time to time, for the ways in which adaptation fails without a word."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .domains import UNKNOWN, Batch, Domains
from .evidence import flattened
from .functional import domain_loss
from .methods import Method, SourceOnly
from .methods.dann import logits_of_domains
from .network import Network, evaluating
from .seeds import isolated_seed
from .streams import tensor_of

LOOKS = 40  # in a training, at even distances of whole steps: some more where steps do not divide by it
SURE = 2  # the same for weights that do not move
ROWS = 128  # of each domain that they look at, the same in every look
FEW_ROWS = 16  # of these, to see whether a gradient gets somewhere
SHORTEST = 100  # steps: what is shorter says nothing
PERSISTENT = 3  # looks in a row that have to see the same: features of a healthy game may be flat for two
OVER = 3  # sound looks in a row, after which a trouble is over: as many as raise an alarm
SPREAD = 1e-3  # of the features, relative to their size, below which they are constant
ONE_CLASS = 1.05  # effective number of classes that is one class but for a row or two
FEW = 0.2  # of the source's effective number of classes, where that is large
LEARNED = 0.25  # of the way from the largest class's share to 1, from which on the source counts as learned
FELL = 1.5  # times fewer classes than there were: not the work of the shift, as it is where they always were few
PATIENCE = 0.5  # of the training, after which few classes are a collapse, however they began
UNLIKELY = 1e-3  # that the target's rows are all of the source's largest class by chance; else one class is no sign
MANY = 4  # classes: of more, a shift by itself leaves more than a few, and there is no need to wait
EARLY = 60  # steps, in which nothing need be learned
RARE = 0.8  # of the source in one class, from which on all rows in it may be all that there is to learn
STUCK = 0.95  # of the label loss that the classes' shares alone give
LATE = 0.04  # of the training, in which something should be learned
LOST = 0.2  # of the source accuracy, below the best so far
TINY = 1e-3  # of the largest weight: growth that is none
NOISE = 5.0  # steps of Adam, around 0, that a weight takes that decays without a gradient
FLAT = 1e-3  # difference of probabilities that a head's inputs make, below which it says the same for all
CERTAIN = 1e-3  # what a domain head that is always right has left of the gradient
SOUND = 0.5  # of the source's diversity of classes, and of what the source may lose, with which a trouble can be over
EXPLODED = 1e4  # times what a term was at first, or 1


class Event(NamedTuple):
    """What a guard saw."""

    kind: str  # "collapse", "dead-adversary", "divergence" or "source-lost"
    step: int  # after as many steps
    message: str  # what it saw, and what to try
    over: int | None = None  # step after which nothing of the kind was seen any more; None while it stands

    def __str__(self) -> str:
        """Return the event as one line."""
        return f"{self.kind}: {self.message}" + ("" if self.over is None else f", over after step {self.over}")


class Look(NamedTuple):
    """One look: numbers, None where there is nothing to measure."""

    spread: float  # of the target's features, as a fraction of their size; 0 is constant
    rank: float  # effective dimensions of the target's features
    classes: float | None  # effective number of classes predicted on the target
    source_accuracy: float | None  # on training rows
    domain_spread: float | None  # standard deviation of the domain head's probabilities over all rows
    domain_accuracy: float | None  # mean over domains
    domain_gradient: float | None  # mean |1 - p| of the true domain: what of the gradient is left
    domain_learns: bool  # whether some gradient reaches the weights of the domain head
    still: tuple[str, ...]  # parts of the method whose weights are exactly those of the look before


class Guards:
    """Watches one training; an alarm is raised once, and stands until three looks in a row are sound.

    Collapse is features that are the same for all rows; or one class for all target rows (very few, where the source
    has many) of a model that has learned the source: at once if there were more before, if the source has more than
    four classes, or if the source rows nearest to the target's are of several; else after half of the training, since
    a shift by itself may put all rows on one side, unless rare classes may be missing by chance; or one class for all
    target rows with a label loss that does not fall below that of the classes' shares, a tenth of the training long.

    An adversary is dead if its weights move as far as weight decay moves them, if it says the same for every row, or if
    it is always right and so sure that no gradient is left for the features. A training diverges when a term grows
    beyond all measure; NaN stops it by itself. The source is lost if its accuracy falls far below what it was. Each has
    to be seen in three looks in a row, weights that do not move in two, of 40 or some more in a training.

    Parameters
    ----------
    net : Network
    method : Method
    domains : Domains
        Of the training; target labels are not looked at.
    steps : int
        Of the whole training; below 100 there are no looks.
    step : float
        How far a step takes a weight that has no gradient back and forth around 0: the learning rate with Adam, whose
        steps do not shrink with the gradient, 0 with SGD.
    schedule : callable or None
        progress (0 … 1) → factor on the learning rates.
    device : torch.device
    context : callable, optional
        Makes the contexts that compute in the training's precision.
    """

    def __init__(
        self,
        net: Network,
        method: Method,
        domains: Domains,
        steps: int,
        step: float,
        schedule: Callable[[float], float] | None,
        device: torch.device,
        context: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.net, self.method, self.steps, self.step, self.context = net, method, steps, step, context
        self.every, self.schedule = max(1, steps // LOOKS), schedule or (lambda progress: 1.0)
        random = np.random.default_rng(0)
        chosen = [random.permutation(len(d.x))[:ROWS] for d in domains.all]
        looked_at = np.concatenate([d.x[rows] for d, rows in zip(domains.all, chosen, strict=True)])
        self.x = tensor_of(looked_at).to(device)
        self.several = bool((self.x[-len(chosen[-1]) :] != self.x[-1:]).any())  # different rows of the target
        self.domain = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
        self.n_source = len(self.domain) - len(chosen[-1])
        self.index = np.concatenate(chosen)
        of_target = np.full_like(domains.target.y, UNKNOWN if domains.target.y.dtype.kind == "i" else np.nan)
        sides = [d.y for d in domains.sources] + [of_target]  # never the target's own
        self.labels = np.concatenate([y[rows] for y, rows in zip(sides, chosen, strict=True)])
        labels = [d.y[rows] for d, rows in zip(domains.sources, chosen, strict=False)]
        self.y = np.concatenate(labels) if labels and len(domains.classes) and method.classifies else None
        self.shares = None if self.y is None else np.bincount(self.y, minlength=len(domains.classes)) / len(self.y)
        near = () if self.y is None else self.y[nearest_of(looked_at, self.n_source)]
        self.near = effective(np.bincount(near) / len(near)) if len(near) else 1.0  # what the shift itself leaves
        self.weights: dict[str, list[Tensor]] = {}
        self.asleep: dict[str, bool] = {}  # since the start
        self.first: dict[str, float] = {}
        self.best, self.most = 0.0, 0.0
        self.looks, self.flat = 0, 0
        self.source_alone, self.progress = isinstance(method, SourceOnly), 0.0
        self.remedy = "lower lr" if self.source_alone else "lower lr or the weight of the method"
        self.streak: dict[str, int] = {}
        self.quiet: dict[str, int] = {}  # looks since a kind of trouble was seen
        self.events: list[Event] = []

    def due(self, done: int) -> bool:
        """Whether to look after ``done`` steps."""
        return self.steps >= SHORTEST and done % self.every == 0

    def look(self, done: int, terms: Mapping[str, Tensor]) -> list[Event]:
        """Look at the network after ``done`` steps, and return new alarms."""
        self.progress = done / self.steps
        seen = self.measure(self.schedule(self.progress))
        self.looks += 1
        if seen.source_accuracy is not None:
            self.best = max(self.best, seen.source_accuracy)
        if seen.classes is not None:
            self.most = max(self.most, seen.classes)
        label = float(terms["label"]) if "label" in terms else math.inf
        complaints = [*self.complaints(seen, done / self.steps, label), *self.exploded(terms)]
        self.streak = {cause: self.streak.get(cause, 0) + 1 for _, cause, _ in complaints}
        ill = {kind for kind, _, _ in complaints} | self.unwell(seen)
        self.quiet = {e.kind: 0 if e.kind in ill else self.quiet.get(e.kind, 0) + 1 for e in self.events}
        self.events = [
            e._replace(over=done - OVER * self.every) if e.over is None and self.quiet[e.kind] == OVER else e
            for e in self.events
        ]
        new = []
        for kind, cause, message in complaints:
            if cause == "silent" and done < EARLY:
                continue
            standing = {event.kind for event in self.events if event.over is None}
            if self.streak[cause] >= (SURE if cause == "still" else PERSISTENT) and kind not in standing:
                new.append(Event(kind, done, f"{message} (step {done} of {self.steps})"))
                self.events.append(new[-1])
        return new

    def unwell(self, seen: Look) -> set[str]:
        """Return the kinds of trouble that one look finds not over, by more than what would raise an alarm."""
        found = set()
        if self.shares is not None and seen.classes is not None and seen.source_accuracy is not None:
            if math.log(seen.classes) < SOUND * math.log(effective(self.shares)):
                found.add("collapse")
            if seen.source_accuracy < self.best - SOUND * LOST:
                found.add("source-lost")
        return found

    def state(self) -> dict[str, Any]:
        """Return what a training that goes on later needs."""
        events = [tuple(event) for event in self.events]
        return {
            "best": self.best,
            "most": self.most,
            "looks": [self.looks, self.flat],
            "first": self.first,
            "asleep": self.asleep,
            "weights": self.weights,
            "streak": self.streak,
            "quiet": self.quiet,
            "events": events,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from an earlier `state`."""
        self.weights = {player: [t.to(self.x.device) for t in tensors] for player, tensors in state["weights"].items()}
        self.best, self.most = state["best"], state["most"]
        self.looks, self.flat = state["looks"]
        self.first, self.streak, self.quiet = (dict(state[key]) for key in ("first", "streak", "quiet"))
        self.asleep = dict(state["asleep"])
        self.events = [Event(*event) for event in state["events"]]

    def measure(self, rate: float = 1.0) -> Look:
        """Measure the network as it stands; ``rate`` is the factor on the learning rates."""
        with evaluating(self.net):
            return self._measured(rate)

    def _measured(self, rate: float) -> Look:
        net = self.net
        with torch.no_grad(), self.context():
            features, logits = net(self.x)
            own = self.x[: self.n_source]
            if len(own) and (of_source := self.method.of_source(net, own)) is not net:
                both = zip(of_source(own), (features, logits), strict=True)
                features, logits = (torch.cat([mine, every[self.n_source :]]) for mine, every in both)
            target = features[self.n_source :].float()
            centred = target - target.mean(0)
            gram = centred.T @ centred if centred.shape[1] < len(centred) else centred @ centred.T
            trace, square = gram.trace(), gram.square().sum()
            spread = (centred.square().mean() / target.square().mean().clamp_min(1e-30)).sqrt()
            heads = None
            if "domain" in net.parts and self.method.classifies:
                heads = logits_of_domains(net, self.method.domain_input(net, features, logits)).float().softmax(1)
        classes = accuracy = None
        if self.y is not None:
            predicted = logits.argmax(1).cpu().numpy()
            classes = effective(np.bincount(predicted[self.n_source :]) / (len(predicted) - self.n_source))
            accuracy = float((predicted[: self.n_source] == self.y).mean())
        rank = float(trace**2 / square.clamp_min(1e-30))
        seen = Look(float(spread), rank, classes, accuracy, None, None, None, True, self.unmoved(rate))
        if heads is None:
            return seen
        flat, right, left = self.of_domains(heads.cpu().numpy())
        learns = flat >= FLAT or self.learns(features, logits)
        return seen._replace(domain_spread=flat, domain_accuracy=right, domain_gradient=left, domain_learns=learns)

    def learns(self, features: Tensor, logits: Tensor) -> bool:
        """Return whether the domain head's loss has a gradient for some weight, biases apart."""
        net = self.net
        with torch.enable_grad(), self.context():
            seen = self.method.domain_input(net, features, logits).detach()
            loss = domain_loss(logits_of_domains(net, seen), torch.from_numpy(self.domain).to(features.device))
        weights = [p for p in net.group("domain") if p.dim() > 1]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        return any(g is not None and bool((g != 0).any()) for g in gradients)

    def of_domains(self, p: np.ndarray) -> tuple[float, float, float]:
        """Return spread over rows, accuracy and what is left of the gradient, from the domain head's probabilities."""
        right, left = p.argmax(1) == self.domain, 1 - p[np.arange(len(p)), self.domain]
        sides = [self.domain == k for k in np.unique(self.domain)]
        return float(p.std(0).max()), float(np.mean([right[s].mean() for s in sides])), float(left.mean())

    def unmoved(self, rate: float) -> tuple[str, ...]:
        """Return the parts of the method none of whose weights has grown since the last look: no gradient gets there.

        Weight decay makes all weights smaller, until they are as small as a step of the optimiser. So may a part that
        helps to make some term small: see `reached`.
        """
        still = []
        for player in self.net.players[2:]:  # some methods leave encoder or head as they are
            now, before = self.net.group(player), self.weights.get(player)
            small = NOISE * self.step * self.method.learning_rates().get(player, 1.0)
            if before is not None and len(before) == len(now):  # else some were frozen or thawed
                pairs = [(a.detach().abs(), b.abs()) for a, b in zip(now, before, strict=True)]
                least = TINY * rate * max(float(b.max()) for _, b in pairs)  # momentum that lingers
                grown = any(bool((a > (b + least).clamp(min=small)).any()) for a, b in pairs)
                large = any(bool((b > small).any()) for _, b in pairs)
                moved = any(bool((a != b).any()) for a, b in pairs)
                if not grown and (large or self.asleep.get(player, True)):
                    asked = moved and self.streak.get("still", 0) >= SURE - 1  # it costs a step: only before an alarm
                    if not (asked and self.reached(player)):
                        still.append(player)
                self.asleep[player] = self.asleep.get(player, True) and not grown
            self.weights[player] = [p.detach().clone() for p in now]
        return tuple(still)

    def reached(self, player: str) -> bool:
        """Return whether some gradient gets to a part of the method, on copies of the network and the method.

        False where that cannot be tried: no method has to take other rows than those of a training.
        """
        try:
            return self._reached(player)
        except Exception:
            return False

    def _reached(self, player: str) -> bool:
        frozen = {id(p): p for p in self.net.parameters() if not p.requires_grad}
        net, method = copy.deepcopy((self.net, self.method), frozen)
        some = np.concatenate([np.flatnonzero(self.domain == k)[:FEW_ROWS] for k in np.unique(self.domain)])
        sizes, device = tuple(np.bincount(self.domain[some]).tolist()), self.x.device
        x = self.x[torch.from_numpy(some).to(device)]
        y, domain, index = (torch.from_numpy(a[some]).to(device) for a in (self.labels, self.domain, self.index))
        variant = x[-sizes[-1] :] if method.two_views else None
        batch = Batch(x, y, domain, index, len(x) - sizes[-1], False, variant, sizes)
        with isolated_seed(0, device), torch.enable_grad(), self.context():
            net.train()
            for players, terms in method.moves(net, batch, torch.full((), self.progress, device=device)):
                losses = [term for term in terms.values() if term.requires_grad]
                if player not in players or not losses:
                    continue
                gradients = torch.autograd.grad(losses, net.group(player), allow_unused=True, retain_graph=True)
                if any(g is not None and bool((g != 0).any()) for g in gradients):
                    return True
        return False

    def complaints(self, seen: Look, progress: float, label: float) -> list[tuple[str, str, str]]:
        """Return kind, cause and message of all that one look finds wrong."""
        found = []
        if seen.spread < SPREAD and self.several:
            text = (
                f"the features are the same for all target rows (they vary by {seen.spread:.1g} of their size, in "
                f"{seen.rank:.1f} effective dimensions): {self.remedy}"
            )
            found.append(("collapse", "features", text))
        if self.shares is not None and seen.classes is not None and seen.source_accuracy is not None:
            own, chance = effective(self.shares), self.shares.max()
            waited = progress >= PATIENCE and chance ** (len(self.x) - self.n_source) < UNLIKELY
            few = seen.classes < min(own, max(ONE_CLASS, FEW * own)) and self.best > chance + LEARNED * (1 - chance)
            if (
                few
                and self.several
                and not self.source_alone
                and (own > MANY or max(self.most, self.near) > FELL * seen.classes or waited)
            ):
                text = (
                    f"the target's rows get {seen.classes:.1f} classes in effect, where the source has {own:.1f}: "
                    "lower the weight of the method, or lr"
                )
                found.append(("collapse", "classes", text))
            one = seen.classes < max(ONE_CLASS, FEW * own)
            unlearned = self.best < chance + LEARNED * (1 - chance) and label > STUCK * np.log(own)
            if one and unlearned and progress > LATE and chance < RARE:
                text = (
                    f"nothing is learned: the target's rows get {seen.classes:.1f} classes in effect, accuracy on the "
                    f"source is {seen.source_accuracy:.2f}: {self.remedy}"
                )
                found.append(("collapse", "silent", text))
            if seen.source_accuracy < self.best - LOST:
                text = (
                    f"accuracy on the source fell to {seen.source_accuracy:.2f} from {self.best:.2f}: lower the weight "
                    "of the method, or lr"
                )
                found.append(("source-lost", "source", text))
        if seen.still and self.method.classifies:
            text = (
                f"no weight of {', '.join(seen.still)} changes, no gradient gets there: see what the loss does with "
                "its output, and for units that are all off"
            )
            found.append(("dead-adversary", "still", text))
        if seen.domain_spread is not None and seen.spread >= SPREAD:
            self.flat += seen.domain_spread < FLAT
            if seen.domain_spread < FLAT and (not seen.domain_learns or self.flat == self.looks):
                text = (
                    "the domain head says the same for every row, and its loss is that of a constant (probabilities "
                    f"vary by {seen.domain_spread:.1g}): raise its lr_multiplier, or look at its last layer"
                )
                found.append(("dead-adversary", "flat", text))
            if seen.domain_accuracy == 1 and seen.domain_gradient < CERTAIN:  # type: ignore[operator]
                text = (
                    "the domain head is right for every row and so sure of it that next to no gradient reaches the "
                    f"features ({seen.domain_gradient:.1g} is left): scale the inputs, smooth the domain labels, or "
                    "take a method for distant domains, such as wdgrl or dan"
                )
                found.append(("dead-adversary", "certain", text))
        return found

    def exploded(self, terms: Mapping[str, Tensor]) -> list[tuple[str, str, str]]:
        """Return complaints of terms that have grown beyond all measure."""
        found = []
        for name, term in terms.items():
            value = abs(float(term))
            first = self.first.setdefault(name, max(value, 1.0) if math.isfinite(value) else 1.0)
            if not value <= EXPLODED * first:  # NaN too
                was = f", it was {first:.3g}" if math.isfinite(value) else ""
                text = f"the loss {name!r} is {value:.3g}{was}: {self.remedy}"
                found.append(("divergence", f"term {name}", text))
        return found


def harmful(events: Sequence[Event]) -> list[str]:
    """Return the messages of troubles that stand, but for adversaries that do nothing: these harm no model."""
    return [event.message for event in events if event.over is None and event.kind != "dead-adversary"]


def nearest_of(x: np.ndarray, n_source: int) -> np.ndarray:
    """Return the number of the source row that lies nearest to each target row, which stand behind the source's."""
    rows = torch.from_numpy(flattened(x))
    return torch.cdist(rows[n_source:], rows[:n_source]).argmin(1).numpy()


def effective(shares: np.ndarray) -> float:
    """Return the effective number of classes: exp of the entropy of their shares."""
    p = shares[shares > 0]
    return float(np.exp(-(p * np.log(p)).sum()))
