"""The estimator for classes, and what it says of itself without target labels."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from .domains import (
    UNKNOWN,
    Domain,
    Domains,
    arrange,
    as_inputs,
    as_labels,
    encode,
    is_unknown,
    match_inputs,
    target_labels,
)
from .estimator import Adapter, scored, taken
from .evidence import Evidence, Structure, crowd_of, mixtures, structure_of
from .guards import harmful
from .machine import usual_modes
from .metrics import classification_metrics
from .streams import tensor_of

if TYPE_CHECKING:
    from .assessment import Assessment

LOOKED_AT = 1000  # rows of each domain, for an assessment
MIXED = 0.55  # share of the larger part in a mixture of two rows


class DomainAdapter(ClassifierMixin, Adapter):
    """Classifier for a target domain, trained on labelled source rows and unlabelled target rows.

    Parameters
    ----------
    method : str or Method
        A name from ``dann list`` such as "dann", or an object such as ``DANN(weight=0.5)``.
    backbone : str, Backbone or nn.Module
        "auto" takes an MLP for tables and the papers' MNIST network for images, "small" for those of fewer than 16
        pixels a side. A module of your own maps rows to flat features; each `fit` trains a copy of it.
    steps : int
        Training steps, ≥ 1.
    pretrain_steps : int
        Steps of source-only training, with the same settings, from whose encoder and label head the method starts; ≥ 0.
    batch_size : int
        Rows of the target in a batch; the sources share as many again.
    optimizer : {"adam", "adamw", "sgd"}
    lr : float
        Learning rate at the start, > 0. The paper's is 0.01 with "sgd" and "annealing". The default, decay, schedule
        and the defaults of `MLP` are what toys and tables did best with (docs/methods.md); encoders that were trained
        before want a tenth of it.
    momentum : float
        Of "sgd", 0.9 in the paper; with "adam" and "adamw" their β1.
    weight_decay : float
        ≥ 0, added to the gradient as that factor times the weights; "adamw" shrinks them by lr times that factor.
        Without it adversarial games swing.
    clip_norm : float, optional
        > 0: longer gradients, all of one step together, are scaled to this length. Against losses that explode.
    lr_schedule : {"constant", "annealing", "cosine"}
        Over the progress p: "annealing" is the paper's lr / (1 + 10 p)^0.75, "cosine" is lr (1 + cos πp) / 2.
    averaging : float
        Decay, 0 … 1, of an exponential moving average of the weights over the steps, which is the trained model: it
        smooths the swings of the adversarial game. 0 keeps the weights of the last step; .998 in Shu et al., A DIRT-T
        Approach to Unsupervised Domain Adaptation, ICLR 2018.
    scaling : {"standard", "mean", "image", "none"}
        Preprocessing, measured on the training rows of all domains and kept with the model; see `Normalize.fit`.
    encoding : {"joint", "separate", "per-domain"}
        Batch norm over the rows of all domains together, or of each source and the target apart; no difference without
        batch norm. Predictions take the running statistics of all or, with "per-domain", of the target alone: source
        rows then score worse.
    class_weight : "balanced" or dict, optional
        Weights of the source's classes by label, as with ``sample_weight`` of `fit`; "balanced" draws all alike often.
    augmentation : {"none", "weak", "strong"} or Augmentation
        Random variations of all rows in training, drawn anew in every step; see `ImageAugmentation` and
        `TableAugmentation`.
    strong_augmentation : {"weak", "strong"} or Augmentation
        Second variations of the target's rows, for methods that compare two views of a row, such as FixMatch; others do
        without.
    initialization : {"torch", "truncated-normal", "xavier", "he"}
        How the weights are drawn; see `initialize`. Never applied to a module of your own.
    precision : {"auto", "fp32", "bf16"}
        What convolutions and matrix products compute in. "auto" is bfloat16 for trainings with enough work on
        processors that are fast in it, if method and network are this package's own, and single precision elsewhere;
        predictions take bfloat16 for "bf16" alone. Weights and losses stay in single precision. See
        docs/performance.md for speed and accuracy.
    compile : "auto" or bool
        Repeat the recorded operations of the first step, on a GPU as one CUDA graph. Same bits, less overhead; right
        where every step does the same operations. "auto" does so on the CPU in trainings of 100 steps or more, if
        method and network are this package's own and steps are not too large to gain; give True where you know it of
        yours. Where values are read, or the second step, computed both ways, is not the same, a warning says so, and
        the steps are computed one by one.
    on_collapse : {"warn", "stop", "source-only"}
        What to do where a guard sees the training go wrong: warn and go on, raise `TrainingCollapsed`, or train on the
        source alone instead; see `Guards`.
    log_every : int
        Steps between two entries of `history_`; reading a loss makes a GPU wait.
    device : str
        "auto" takes a CUDA device where there is one, else the CPU.
    random_state : int or None
        Seed of everything random; None draws one and keeps it as `seed_`. The same seed, data, settings, device and
        number of threads give the same weights, on the CPU bit for bit. Behind a fit the global random states of
        PyTorch, NumPy and Python are as before; fits in several threads of a process run one after the other, but a
        thread that draws from these states meanwhile draws from the training's.

    Attributes
    ----------
    classes_ : ndarray (K,)
    n_features_in_ : int
        Columns of a table, or channels of images.
    feature_names_in_ : ndarray (n_features_in_,)
        Names of the columns, where the data had some; tables are put into their order.
    network_ : Network
    history_ : list of dict
        "step" and the loss terms, every ``log_every`` steps and at the last.
    events_ : list of Event
        What guards saw.
    method_ : Method
        What was trained: the method, or source-only where ``on_collapse`` fell back on it.
    seed_ : int
    precision_ : torch.dtype
        Of the training.
    """

    task = "classification"
    learned = ("classes_",)

    def _domains(self, X: Any, y: Any, X_target: Any, y_target: Any, sample_domain: Any, sample_weight: Any) -> Domains:
        domains = Domains.from_arrays(X, y, X_target, y_target, sample_domain, sample_weight, self.class_weight)
        self.classes_ = domains.classes
        return domains

    def _target_alone(self, x: np.ndarray) -> Domains:
        target = Domain("target", x, np.full(len(x), UNKNOWN, dtype=np.int64))
        return Domains((), target, self.classes_, self.columns_)

    @property
    def _outputs(self) -> int:
        return len(self.classes_)

    def _label_config(self) -> Any:
        return self.classes_.tolist()

    def _restore_labels(self, config: Any) -> None:
        self.classes_ = np.array(config)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities, float32 (n, K), columns in the order of `classes_`."""
        return self._map(X, lambda _, logits: logits.float().softmax(1))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of every row, (n,)."""
        best = self.predict_proba(X).argmax(1)  # first: it says where there is no model yet
        return self.classes_[best]

    def outputs(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return features, float32 (n, dim), and logits, float32 (n, K), in one pass."""
        both = self._map(X, lambda f, g: torch.cat([f.float(), g.float()], 1))
        features, logits = np.split(both, [self.network_.dim], axis=1)
        return features, logits

    def _of_source(self, X: Any) -> Self:
        """Return this model as it reads source rows to be judged by, see `Method.of_source`."""
        check_is_fitted(self, "network_")
        x = as_inputs(arrange(X, self.columns_, "the source"), "the source")
        match_inputs(x, self.shape_, np.dtype(self.dtype_), "the source")
        other = copy.copy(self)
        other.network_ = self.method_.of_source(self.network_, tensor_of(x))
        return other

    def structure(
        self, X: Any, X_target: Any, crowd: Any = None, source_crowd: tuple[Any, Any] | None = None
    ) -> Structure:
        """Look at what the inputs alone say, once for several models; see `evidence.structure_of`.

        Parameters
        ----------
        X, X_target
            The rows that `evidence` is to look at; ``X`` may be None.
        crowd : optional
            Target rows whose clusters are looked for, those of the training among them; default ``X_target``. Two
            thousand are looked at.
        source_crowd : (rows, labels), optional
            Of the source, those of the training among them: the more rows, the better their clusters are found. Two
            thousand are looked at.

        Returns
        -------
        Structure
            For `evidence`, here and of other models with the same inputs.

        Raises
        ------
        ValueError
            Rows that are not like those of the training.
        """
        check_is_fitted(self, "network_")
        crowd = X_target if crowd is None else crowd
        count = lambda rows: rows.shape[0] if hasattr(rows, "shape") else len(rows)  # noqa: E731
        crowd = taken(crowd, crowd_of(count(crowd)))
        inputs = lambda rows, what: as_inputs(arrange(rows, self.columns_, what), what)  # noqa: E731
        x = None if X is None else inputs(X, "the source")
        sides = x, inputs(X_target, "the target"), inputs(crowd, "the crowd")
        more = None
        if source_crowd is not None:
            some = crowd_of(n := count(source_crowd[0]))
            labels = encode(as_labels(source_crowd[1], n, "the source crowd"), self.classes_, "the source crowd")
            more = inputs(taken(source_crowd[0], some), "the source crowd"), labels[some]
        return structure_of(*sides, crowd, len(self.classes_), self.network_.normalize.series, more)

    @usual_modes()
    def evidence(
        self,
        X: Any,
        y: Any,
        X_target: Any,
        *,
        mixed: bool = False,
        structure: bool | Structure = False,
        others: Sequence["DomainAdapter"] = (),
    ) -> Evidence:
        """Look at held-out rows: what a judgement of this model without target labels is made of.

        Parameters
        ----------
        X, y
            Source rows that training did not see, and their labels. Where batch norm has the target's statistics alone
            (``encoding="per-domain"``, or after `adapt_to`), source rows are read by their own, as in training, and
            after ADDA by the source's encoder.
        X_target
            Target rows, best such that training did not see.
        mixed : bool
            Also predict mixtures of target rows, which the validator "mixval" asks for.
        structure : bool or Structure
            Also look for rows that lie near each other in the space of the inputs, and for clusters, which the
            validators "neighbors" and "input-ami" and `assess` ask for; or what `structure` has found of these rows.
            Time grows with the square of the rows: a thousand are enough.
        others : sequence of DomainAdapter
            Other trainings with the same settings, for "agreement".

        Returns
        -------
        Evidence

        Raises
        ------
        ValueError
            Rows that do not fit, labels that the training did not have.
        """
        features, logits = self.outputs(X_target)
        source_features, source_logits = self._of_source(X).outputs(X)
        logits_of = lambda model, rows: model._map(rows, lambda _, g: g.float())  # noqa: E731
        of_mixed = None
        if mixed:
            x = as_inputs(arrange(X_target, self.columns_, "the target"), "the target")
            half = MIXED * x.astype(np.float32) + (1 - MIXED) * x[mixtures(len(x))]
            of_mixed = logits_of(self, half.round().astype(x.dtype) if x.dtype == np.uint8 else half)
        if structure is True:
            structure = self.structure(X, X_target)
        return Evidence(
            source_features,
            source_logits,
            encode(as_labels(y, len(source_logits), "y"), self.classes_, "y"),
            features,
            logits,
            of_mixed,
            np.stack([logits_of(other, X_target) for other in others]) if others else None,
            **(self.structured(structure) if structure else {}),
        )

    def structured(self, structure: Structure) -> dict[str, np.ndarray]:
        """Return the fields of `Evidence` that a structure of the inputs gives."""
        classes = {"crowd_classes": self.predict_proba(structure.crowd).argmax(1)}
        found = structure._asdict().items()
        return classes | {name: value for name, value in found if name != "crowd" and value is not None}

    def assess(
        self,
        X: Any,
        y: Any,
        X_target: Any,
        y_target: Any = None,
        *,
        baseline: "DomainAdapter | Sequence[DomainAdapter] | None" = None,
        others: Sequence["DomainAdapter"] = (),
        seed: int = 0,
    ) -> "Assessment":
        """Say how right this model is on the target, and whether it is better than one of the source alone.

        Parameters
        ----------
        X, y
            Source rows that training did not see, and their labels: 20 or more, a thousand are looked at.
        X_target
            Target rows, as many.
        y_target : array, optional
            A few labels of these rows that you have; -1 (unless it is a class), None and NaN mark unknown ones. Label
            rows that were drawn at random; those of classes that the source lacks count as wrong.
        baseline : DomainAdapter or sequence of it, optional
            Trained on the source alone, with the same settings; several differ in their seed. Without one there is an
            estimate, and no choice.
        others : sequence of DomainAdapter
            Trainings as this one, with other seeds: the estimate becomes much better with one or two.
        seed : int
            Of the choice of rows.

        Returns
        -------
        Assessment

        Raises
        ------
        ValueError
            Rows or labels that do not fit.
        """
        from .assessment import assess

        check_is_fitted(self, "network_")
        if baseline is not None and not isinstance(baseline, DomainAdapter) and not len(baseline):
            raise ValueError("baseline is empty: give a model of the source, or leave it out")
        sides = (X, "the source"), (X_target, "the target")
        n, m = (as_inputs(arrange(side, self.columns_, what), what).shape[0] for side, what in sides)
        codes = target_labels(y_target, m, self.classes_, others=True)
        rows = chosen(n, seed), chosen(m, seed, np.flatnonzero(codes >= 0))
        x, x_target = taken(X, rows[0]), taken(X_target, rows[1])
        labels = as_labels(y, n, "y")[rows[0]]
        mine = [self, *others]
        models = {"this model": mine}
        if baseline is not None:
            below = [baseline] if isinstance(baseline, DomainAdapter) else list(baseline)
            models = {"source-only": below, "this model": mine}
        seen = self.structure(x, x_target, X_target)
        evidence = {
            name: [model.evidence(x, labels, x_target, structure=seen) for model in group]
            for name, group in models.items()
        }
        codes = codes[rows[1]]
        known = np.flatnonzero(codes >= 0), codes[codes >= 0]
        alarms = {
            name: sorted({message for model in group for message in harmful(model.events_)})
            for name, group in models.items()
        }
        return assess(evidence, baseline=next(iter(models)), alarms=alarms, labelled=known)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on the rows whose label is known.

        None, NaN and, unless it is a class, -1 mark unknown ones, as text "-1" or "" too: so scikit-learn's
        cross-validation of pooled domains, whose target rows have no labels, scores source rows alone.

        Raises
        ------
        ValueError
            No label is known.
        """
        check_is_fitted(self, "network_")
        return super().score(*scored(X, y, sample_weight, lambda label: is_unknown(label, self.classes_)))

    def evaluate(self, X: Any, y: Any) -> dict[str, Any]:
        """Score predictions against labels; on target rows this is an oracle's view, which training never has.

        Rows whose label is not known are left out, as in `score`.

        Returns
        -------
        dict
            See `classification_metrics`.

        Raises
        ------
        ValueError
            Labels that the source did not have.
        """
        check_is_fitted(self, "network_")
        rows, known, _ = scored(X, y, None, lambda label: is_unknown(label, self.classes_))
        probabilities = self.predict_proba(rows)
        labels = encode(as_labels(known, len(probabilities), "y"), self.classes_, "the data")
        return classification_metrics(probabilities, labels)


def chosen(n: int, seed: int, always: np.ndarray | None = None) -> np.ndarray:
    """Return the numbers of the rows to look at, at most a thousand of n, some of them always, int."""
    order = np.random.default_rng(seed).permutation(n)
    if always is not None:
        order = np.concatenate([always, order[~np.isin(order, always)]])
    return np.sort(order[: max(LOOKED_AT, 0 if always is None else len(always))])
