"""The scikit-learn face: what the estimators for classes and for continuous labels share."""

import copy
import math
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import Tensor, nn

from . import runs
from .augmentation import Augmentation, ImageAugmentation, augmentation_of
from .backbones import BACKBONES, Backbone, Custom, MNISTNet, feature_width, memory_format_of, takes_series
from .domains import Domain, Domains, arrange, as_inputs, match_inputs, unmasked
from .engine import RECORDING_PAYS, WORTH_RECORDING, Step, WeightAverage, train
from .functional import annealing
from .guards import Event, Guards
from .identity import identity
from .machine import PRECISIONS, autocast, device_of, precision_for, rows_at_once, threads_for, tuned, usual_modes
from .methods import METHODS, Method, SourceOnly, Sum, method_of, name_of
from .methods.dann import logits_of_domains
from .network import Network, Normalize, evaluating, initialize
from .optimizers import OPTIMIZERS, Optimizer
from .recording import alike
from .seeds import isolated_seed, random_state, restore_random_state
from .settings import (
    OBJECTS,
    as_json,
    check_declared,
    check_layers,
    check_whole,
    described,
    fits,
    is_finite,
    kept,
    named,
    refuse_class,
)
from .streams import ArrayStream, tensor_of

LR_SCHEDULES: dict[str, Callable[[float], float] | None] = {
    "constant": None,
    "annealing": annealing,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}
ON_COLLAPSE = ("warn", "stop", "source-only")
CHECKPOINT_SECONDS = 15.0
OF_FIRST_TRAINING = ("backbone", "initialization", "scaling", "encoding", "class_weight", "pretrain_steps")  # alone
OFTEN = 4  # times in a batch that a source has each of its rows, from which on it is told
PLAIN = (type(None), bool, int, float, str)  # types of the values that PyTorch reads without executing anything


class TrainingFailed(RuntimeError):
    """A training came to nothing."""


class TrainingDiverged(TrainingFailed):
    """A loss became NaN or infinite."""


class TrainingCollapsed(TrainingFailed):
    """A guard stopped the training; see `Guards`."""


class TrainingWarning(UserWarning):
    """A guard saw a training go wrong."""


class Adapter(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """What `DomainAdapter` and `DomainRegressor` have in common; their parameters are those of `DomainAdapter`."""

    task: ClassVar[str]  # what the labels are, as model files have it
    _average: WeightAverage | None = None
    learned: ClassVar[tuple[str, ...]]  # attributes that hold what `fit` finds out about the labels
    events_: list[Event]
    network_: Network

    def __init__(
        self,
        method: str | Method = "dann",
        backbone: str | Backbone | nn.Module = "auto",
        *,
        steps: int = 2000,
        pretrain_steps: int = 0,
        batch_size: int = 64,
        optimizer: str = "adam",
        lr: float = 2e-3,
        momentum: float = 0.9,
        weight_decay: float = 1e-3,
        clip_norm: float | None = None,
        lr_schedule: str = "cosine",
        averaging: float = 0.0,
        scaling: str = "standard",
        encoding: str = "joint",
        class_weight: str | dict[Any, float] | None = None,
        augmentation: str | Augmentation = "none",
        strong_augmentation: str | Augmentation = "strong",
        initialization: str = "torch",
        precision: str = "auto",
        compile: str | bool = "auto",
        on_collapse: str = "warn",
        log_every: int = 50,
        device: str = "auto",
        random_state: int | None = 0,
    ):
        self.method = method
        self.backbone = backbone
        self.steps = steps
        self.pretrain_steps = pretrain_steps
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.lr_schedule = lr_schedule
        self.averaging = averaging
        self.scaling = scaling
        self.encoding = encoding
        self.class_weight = class_weight
        self.augmentation = augmentation
        self.strong_augmentation = strong_augmentation
        self.initialization = initialization
        self.precision = precision
        self.compile = compile
        self.on_collapse = on_collapse
        self.log_every = log_every
        self.device = device
        self.random_state = random_state

    @usual_modes()
    def fit(
        self,
        X: Any,
        y: Any,
        X_target: Any = None,
        y_target: Any = None,
        *,
        sample_domain: Any = None,
        sample_weight: Any = None,
        run: str | os.PathLike[str] | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Self:
        """Train on labelled source rows and unlabelled target rows.

        Parameters
        ----------
        X : array or data frame (n, features), or images (n, [channels,] height, width)
        y : array (n,)
            Labels: classes of any kind, or numbers where the estimator is a regressor.
        X_target : like ``X``
        y_target : array, optional
            Labels of target rows **that training may use**; None, NaN and, unless it is a class, -1 mark unknown ones
            (for a regressor -1 is a number). Where they are fewer than one in 32, training draws these rows more
            often, so that they make up a sixteenth. Leave it out where labels are only there to judge the result: give
            those to `score` or `evaluate`.
        sample_domain : array of int (n,), optional
            For several sources, or target rows inside ``X`` (as cross-validation needs it): numbers ≥ 0 name sources,
            negative ones mark target rows, whose ``y`` is ignored.
        sample_weight : array (n,), optional
            How often training draws each row of ``X``, ≥ 0, in proportion to the others of its domain: every loss sees
            a row of weight 2 twice as often. Preprocessing is measured on all rows alike.
        run : path, optional
            A folder that keeps configuration, history and a checkpoint, written every 15 seconds and at the end.
            Fitting again with the same data and settings goes on from there, to exactly the same weights. Settings are
            also the code of your own classes, not the functions elsewhere that it calls: change those, take another
            folder.
        on_step : callable, optional
            Called with every `Step`, but for those of ``pretrain_steps``. It may change attributes of `method_`, or
            freeze and thaw layers of `network_`: a recorded training then goes on step by step; see ``compile``. With
            ``run`` frozen layers, and attributes that are numbers or text, are as they were where a training goes on.

        Returns
        -------
        Self

        Raises
        ------
        ValueError
            Data or settings that cannot be trained on; see `Domains.from_arrays`.
        TrainingDiverged
            A loss became NaN or infinite. Then there is no model to predict with; `history_` and `events_` stay.
        TrainingCollapsed
            A guard saw it go wrong, and ``on_collapse`` is "stop": no model either. With "source-only" the source is
            trained on instead.
        KeyboardInterrupt
            The model is as it stands then; in ``pretrain_steps``, and after any other error, there is none.
        """
        if hasattr(self, "network_"):  # a fit that fails leaves no model, not an earlier one with other labels
            del self.network_
        self._check_settings()
        domains = self._domains(X, y, X_target, y_target, sample_domain, sample_weight)
        method = self._method()
        self._check_needs(method, domains)
        method.check(domains)
        seed = self.random_state
        if seed is None:
            folders = () if run is None else (Path(run), Path(run) / "pretraining")
            kept_in = [runs.read_json(f / "config.json") for f in folders]
            earlier = [found for found in kept_in if isinstance(found, dict) and "seed" in found]
            seed = earlier[0]["seed"] if earlier else np.random.SeedSequence().generate_state(1)[0]
        self.seed_ = int(seed)
        self.columns_ = domains.columns
        self.shape_, self.dtype_ = domains.shape, str(domains.target.x.dtype)
        self.n_domains_, self.n_features_in_ = len(domains.all), domains.shape[0]
        with isolated_seed(self.seed_, torch.device("cpu")):  # an encoder that is tried may draw
            series = self._takes_series(self.shape_)
        normalize = Normalize.fit([d.x for d in domains.all], self.scaling, series)
        start = None
        self._augmentations(method, normalize)
        if self.pretrain_steps:
            with isolated_seed(self.seed_, torch.device("cpu")):
                self._build(normalize, method)  # what cannot be built is refused before all that work
            source = clone(self).set_params(method="source-only", steps=self.pretrain_steps, pretrain_steps=0)
            folder = None if run is None else Path(run) / "pretraining"
            rows = {"sample_domain": sample_domain, "sample_weight": sample_weight}
            source.set_params(random_state=self.seed_).fit(X, y, X_target, **rows, run=folder)
            start = source.network_.to("cpu").state_dict()
        try:
            return self._fit(domains, method, normalize, start, run, on_step)
        except TrainingFailed as failure:
            if self.on_collapse != "source-only" or isinstance(method, SourceOnly):
                raise
            warnings.warn(f"{failure}. The model is trained on the source alone", TrainingWarning, stacklevel=3)
            seen, folder = self.events_, None if run is None else Path(run) / "source-only"
            self._fit(domains, SourceOnly(), normalize, start, folder, on_step)
            self.events_ = [*given_up(seen), *self.events_]
            return self

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``method__weight`` and the like are those of the method, also where that is a name."""
        method = params.get("method", self.method)
        if isinstance(method, str) and any(key.startswith("method__") for key in params):
            params = {**params, "method": method_of(method)}
        return super().set_params(**params)

    @usual_modes()
    def adapt_to(
        self,
        X_target: Any,
        method: str | Method = "shot",
        *,
        run: str | os.PathLike[str] | None = None,
        on_step: Callable[[Step], None] | None = None,
        **settings: Any,
    ) -> Self:
        """Go on from this fitted model with rows of a target alone: no source is needed any more.

        Parameters
        ----------
        X_target : like the target of `fit`
        method : str or Method
            One that needs no source, such as "shot".
        run, on_step
            As for `fit`.
        **settings
            Parameters that differ from this estimator's. Where ``lr`` or ``steps`` are not given they are a tenth of
            those of the first training: what learns from its own predictions soon unlearns what is right. What the
            network or the source's rows alone depend on, such as ``encoding``, stays as it was.

        Returns
        -------
        Self
            A new one; this one stays as it is.

        Raises
        ------
        ValueError
            The method needs source rows; rows or settings that cannot be trained on.
        """
        check_is_fitted(self, "network_")
        settled = [name for name in OF_FIRST_TRAINING if name in settings and settings[name] != getattr(self, name)]
        if settled:
            raise ValueError(
                f"{settled[0]}={settings[settled[0]]!r} comes too late: adapt_to goes on with the network as it was "
                "trained, without a source; leave it out, or set it before fit"
            )
        fewer = {} if self.method_.source_free else {"lr": self.lr / 10, "steps": max(1, self.steps // 10)}
        of_network = {name: self.settings_[name] for name in ("backbone", "scaling", "encoding")}
        later = clone(self).set_params(**{**of_network, "method": method, "pretrain_steps": 0, **fewer, **settings})
        later._check_settings()
        made = later._method()
        if not made.source_free:
            free = self._methods_that_fit(source_free=True)
            raise ValueError(f"{type(made).__name__} needs source rows: use fit; without them there is: {free}")
        x = as_inputs(arrange(X_target, self.columns_, "the target"), "the target")
        match_inputs(x, self.shape_, np.dtype(self.dtype_), "the target")
        for name in (*self.learned, "columns_", "shape_", "dtype_", "n_domains_", "n_features_in_"):
            setattr(later, name, getattr(self, name))
        later.seed_ = self.seed_ if later.random_state is None else int(later.random_state)
        domains = later._target_alone(x)
        later._check_needs(made, domains, fitted=True)
        made.check(domains)
        normalize = copy.deepcopy(self.network_.normalize).to("cpu")
        weights = self.network_.state_dict()
        start = {name: value.cpu() for name, value in weights.items() if not name.startswith("parts.")}
        try:
            return later._fit(domains, made, normalize, start, run, on_step)
        except TrainingFailed as failure:
            if later.on_collapse != "source-only":
                raise
            warnings.warn(f"{failure}. The model stays as it was", TrainingWarning, stacklevel=3)
            later.network_, later.method_, later._average = copy.deepcopy(self.network_), SourceOnly(), None
            later.network_.parts.clear()
            later.history_, later.events_ = [], [*given_up(later.events_), *self.events_]
            return later

    @abstractmethod
    def _domains(self, X: Any, y: Any, X_target: Any, y_target: Any, sample_domain: Any, sample_weight: Any) -> Domains:
        """Check and code the data of `fit`, and keep what is learned about the labels."""

    @abstractmethod
    def _target_alone(self, x: np.ndarray) -> Domains:
        """Return domains of target rows without labels, and without a source."""

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns as text, (d,), where the training data had some; else there is no such attribute."""
        if getattr(self, "columns_", None) is None:
            raise AttributeError("feature_names_in_: the estimator is not fitted, or the data had no column names")
        return np.array(self.columns_, dtype=object)

    @property
    def _n_features_out(self) -> int:
        return self.network_.dim

    @property
    @abstractmethod
    def _outputs(self) -> int:
        """How many numbers the label head predicts."""

    @abstractmethod
    def _label_config(self) -> Any:
        """Return what is learned about the labels as JSON values."""

    @abstractmethod
    def _restore_labels(self, config: Any) -> None:
        """Take back what `_label_config` returned."""

    def _fit(
        self,
        domains: Domains,
        method: Method,
        normalize: Normalize,
        start: Mapping[str, Tensor] | None,
        run: str | os.PathLike[str] | None,
        on_step: Callable[[Step], None] | None,
    ) -> Self:
        device = self._device()
        self.method_, self._average = method, None
        self.events_ = []
        with isolated_seed(self.seed_, device):
            net = self._build(normalize, method, start)
            net.to(device)
            net.arrange(memory_format_of(net.encoder, normalize.encoded(self.shape_)))
            self.network_ = net
            adapts = method.classifies and not (method.uses_target_labels or isinstance(method, SourceOnly))
            if adapts and not any(p.requires_grad for p in net.encoder.parameters()):
                warnings.warn(
                    f"no weight of the encoder is trained: {type(method).__name__} can change nothing but the label "
                    "head, and what it does to features alone, such as aligning them, has no effect; unfreeze some, or "
                    "give a network that learns",
                    UserWarning,
                    stacklevel=3,
                )
            views = self._augmentations(method, normalize)
            stream = ArrayStream(domains, self.batch_size, self.seed_, device, *views)
            warn_of_small(domains.sources, stream.sizes)
            self._check_batch_norm(net, stream.sizes)
            self.history_: list[dict[str, float]] = []
            work = 3 * net.work(self.shape_) * sum(stream.sizes)  # forward, and twice as much back
            repeat = self._repeats(net, method, device, work)
            wanted = "fp32" if self.precision == "auto" and not self._known(method) else self.precision
            self.precision_ = precision_for(wanted, device, work)
            try:
                with tuned(work):
                    self._train(net, method, stream, domains, run, on_step, repeat)
            except KeyboardInterrupt:  # the user may want to look at it
                self._take_average()
                net.eval()
                raise
            except BaseException:
                del self.network_  # which would predict all the same, one class for all rows
                raise
        net.eval()
        return self

    def _train(
        self,
        net: Network,
        method: Method,
        stream: ArrayStream,
        domains: Domains,
        run: str | os.PathLike[str] | None,
        on_step: Callable[[Step], None] | None,
        repeat: bool,
    ) -> None:
        optimizer, device = self._optimizer(net, method), stream.device
        average = self._average = WeightAverage(net, self.averaging) if self.averaging else None
        swing = 0.0 if self.optimizer == "sgd" else self.lr
        schedule = LR_SCHEDULES[self.lr_schedule]
        context = autocast(device, self.precision_)
        guards = Guards(net, method, domains, self.steps, swing, schedule, device, context)
        start, checkpoint, mark = 0, None, ""
        if run is not None:
            checkpoint = Path(run) / "checkpoint.pt"
            config = {"dann": runs.version(), "adapter": self.config(), "seed": self.seed_}
            # what the configuration does not tell: objects of the user's own, and the weights that they bring along
            weights = {name: t.cpu() for name, t in net.state_dict().items()}
            start_of: dict[str, Any] = {
                "method": identity(method),
                "encoder": identity(*net.encoder.modules(), *net.parts.modules()),
                "weights": runs.digest(weights, repr(net)),
                "classes": domains.classes,
                "precision": str(self.precision_),
                "device": device.type,
                "varied": identity(self.augmentation, self.strong_augmentation),
            }
            arrays = [a for d in domains.all for a in (d.x, d.y, d.weight) if a is not None]
            mark = runs.fingerprint(arrays, {**config, **start_of})
            state, place = runs.load_checkpoint(checkpoint), Path(run) / "config.json"
            before = runs.read_json(place)
            if before is not None and (not isinstance(before, dict) or "dann" not in before):
                raise ValueError(f"{place} is of no training and would be replaced; give another folder")
            if state is not None:
                if state["fingerprint"] != mark:
                    raise ValueError(
                        f"{run} holds a training with other data or settings; give another folder, or delete it"
                    )
                try:
                    net.load_state_dict(state["network"])
                    optimizer.restore(state["optimizer"])
                    if average is not None:
                        average.restore(state["average"])
                    restore_random_state(device, state["rng"])
                    guards.restore(state["guards"])
                    for p, trains in zip(net.parameters(), state["trains"], strict=True):
                        p.requires_grad_(trains)
                    for part, values in zip(parts_of(method), state["method"], strict=True):
                        for name, value in values.items():
                            setattr(part, name, value)
                except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                    raise runs.ModelFileError(
                        f"{checkpoint} was written by another version of dann ({error!r}); delete it to start anew"
                    ) from error
                self._alarm(guards, [event for event in guards.events if event.over is None])
                start, self.history_ = state["step"], state["history"]
            runs.write_json(place, config)

        saved = net.state_dict().keys()
        lost = {name: buffer.clone() for name, buffer in net.named_buffers() if name not in saved}
        last = time.monotonic()
        watched = on_step is not None
        loop = train(net, method, stream, optimizer, self.steps, start, schedule, repeat, self.precision_, watched)
        for step in loop:
            done = step.number + 1
            if average is not None:
                average.update(done)
            if step.number % self.log_every == 0 or done == self.steps:
                self._log(step)
            if guards.due(done):
                self._alarm(guards, guards.look(done, step.terms))
            if on_step is not None:
                on_step(step)
            if checkpoint is not None and (done == self.steps or time.monotonic() - last > CHECKPOINT_SECONDS):
                state = {"fingerprint": mark, "step": done, "history": self.history_, "rng": random_state(device)}
                state |= {"network": net.state_dict(), "optimizer": optimizer.state()}
                state |= {"average": [] if average is None else average.values, "guards": guards.state()}
                state |= {"trains": [p.requires_grad for p in net.parameters()]}
                state |= {"method": [plain_values(part) for part in parts_of(method)]}
                runs.save_checkpoint(checkpoint, state)
                runs.write_json(checkpoint.with_name("history.json"), self.history_)
                last = time.monotonic()
        self._take_average()
        net.eval()
        buffers = dict(net.named_buffers())
        if changed := [name for name, before in lost.items() if not alike(buffers.get(name, before), before)]:
            warnings.warn(
                f"the buffer {changed[0]!r} changes in training, and files do not hold it: register it with "
                "persistent=True, or a model that is loaded predicts otherwise",
                UserWarning,
                stacklevel=4,
            )
        some = guards.x[:: max(1, len(guards.x) // (2 * self.batch_size))]
        with torch.no_grad(), context():  # no loss has seen the last step
            if not all(bool(values.isfinite().all()) for values in net(some)):
                raise TrainingDiverged(f"outputs are infinite or NaN after the last step: lower lr (now {self.lr})")

    def _take_average(self) -> None:
        """Give the network the averaged weights, if there are such."""
        if self._average is not None:
            self._average.copy_to_network()
            self._average = None

    def snapshot(self) -> Self:
        """Return a fitted copy of this estimator as it stands, in the midst of a training too (see ``on_step``).

        With averaging, the copy has the averaged weights.
        """
        check_is_fitted(self, "network_")
        copied = clone(self)
        for name, value in vars(self).items():
            if name.endswith("_") and not name.startswith("_"):
                setattr(copied, name, copy.deepcopy(value) if name == "network_" else copy.copy(value))
        if self._average is not None:
            for mine, value in zip(copied.network_.parameters(), self._average.values, strict=True):
                mine.data.copy_(value)
        copied.network_.eval()
        return copied

    def _log(self, step: Step) -> None:
        entry = {name: float(term) for name, term in step.terms.items()}
        bad = [name for name, value in entry.items() if not np.isfinite(value)]
        if bad:
            raise TrainingDiverged(
                f"the loss {bad[0]!r} is {entry[bad[0]]} at step {step.number}: lower lr (now {self.lr}) "
                "or the method's weight, give a clip_norm, or standardise the inputs"
            )
        self.history_.append({"step": step.number, **entry})

    def _alarm(self, guards: Guards, new: Sequence[Event]) -> None:
        """Keep what guards saw, and do about it what the user wants."""
        self.events_ = list(guards.events)
        for event in new:
            if self.on_collapse == "stop" or (self.on_collapse != "warn" and not isinstance(self.method_, SourceOnly)):
                raise TrainingCollapsed(str(event))
            warnings.warn(str(event), TrainingWarning, stacklevel=6)

    def _check_settings(self) -> None:
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("lr_schedule", tuple(LR_SCHEDULES)),
            ("precision", PRECISIONS),
            ("compile", ("auto", True, False)),
            ("on_collapse", ON_COLLAPSE),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"unknown {name} {value!r}; choose one of: {', '.join(map(str, choices))}")
        for name, least in (("steps", 1), ("pretrain_steps", 0), ("batch_size", 1), ("log_every", 1)):
            check_whole(name, getattr(self, name), least)
        methods = self.method.methods.values() if isinstance(self.method, Sum) else [self.method]
        for owner in (*methods, *(getattr(self, key) for key in OBJECTS)):
            check_declared(owner)
        if self.random_state is not None and not isinstance(self.random_state, (int, np.integer)):
            raise ValueError(
                f"random_state={self.random_state!r} must be a whole number, or None for a new one each time"
            )
        if not is_finite(self.lr) or not self.lr > 0:
            raise ValueError(f"lr={self.lr!r} must be a number above 0")
        clip = self.clip_norm
        if clip is not None and not (is_finite(clip) and clip > 0):
            raise ValueError(f"clip_norm={clip!r} must be a number above 0, or None for gradients as they are")
        if not is_finite(self.averaging) or not 0 <= self.averaging < 1:
            raise ValueError(f"averaging={self.averaging!r} must lie in [0, 1): 0 is none, .998 a usual decay")

    def _check_needs(self, method: Method, domains: Domains, fitted: bool = False) -> None:
        name = type(method).__name__
        if self.task == "regression" and method.needs_classes:
            free = f"that takes one of: {self._methods_that_fit(source_free=fitted)}"
            if name_of(method) is None:
                free = "if it does not, give its class the attribute needs_classes = False"
            raise ValueError(f"{name} compares classes, and these labels are continuous; {free}")
        if method.source_free and not fitted:
            raise ValueError(f"{name} goes on from a fitted model: fit another method, then adapt_to(X_target, method)")
        if method.needs_pretraining and not self.pretrain_steps:
            raise ValueError(f"{name} starts from a model of the source: give pretrain_steps, 1000 or so")
        if self.batch_size < method.rows_needed:
            raise ValueError(
                f"batch_size={self.batch_size} is too small for {name}, which compares at least {method.rows_needed} "
                "rows of each side"
            )
        for what, rows in (("source", sum(len(d.x) for d in domains.sources)), ("target", len(domains.target.x))):
            if rows < method.rows_needed and not (what == "source" and method.source_free):
                raise ValueError(f"the {what} has {rows} rows, and {name} compares at least {method.rows_needed}")

    def _methods_that_fit(self, source_free: bool) -> str:
        """Return the names of the methods for such labels, with a source or without."""
        kinds = {name: kind for name, kind in METHODS.items() if kind.source_free == source_free and kind.classifies}
        return ", ".join(name for name, kind in kinds.items() if self.task != "regression" or not kind.needs_classes)

    def _check_batch_norm(self, net: Network, sizes: Sequence[int]) -> None:
        least = sum(sizes) if self.encoding == "joint" else min(sizes)
        if net.has_batch_norm and least < 2:
            raise ValueError(
                f"batch_size={self.batch_size} leaves batch norm {least} row of a domain, and a row has no variance: "
                "take a larger batch"
            )

    def _method(self) -> Method:
        refuse_class(self.method)
        if isinstance(self.method, str):
            return method_of(self.method)
        if not isinstance(self.method, Method):
            raise ValueError(f"method={self.method!r} is neither a name nor a Method: give 'dann', or DANN(weight=0.5)")
        return clone(self.method)

    def _augmentations(self, method: Method, normalize: Normalize) -> tuple[Augmentation | None, Augmentation | None]:
        """Return what varies all rows, and what makes the second view, where the method takes one."""
        weak = augmentation_of(self.augmentation, self.shape_)
        looked_at = method.two_views or self.strong_augmentation != "strong"  # a default that nobody takes need not fit
        strong = augmentation_of(self.strong_augmentation, self.shape_) if looked_at else None
        if method.two_views and strong is None:
            raise ValueError(f"{type(method).__name__} compares rows with strong variations: give strong_augmentation")
        if normalize.series and any(isinstance(each, ImageAugmentation) for each in (weak, strong)):
            raise ValueError("these rows are series, which would be varied as images: give an Augmentation of your own")
        return weak, strong if method.two_views else None

    def _backbone(self) -> Backbone:
        if isinstance(self.backbone, nn.Module):
            return Custom(self.backbone)
        if isinstance(self.backbone, str):
            name = self.backbone
            if name == "auto":
                small = len(self.shape_) == 3 and min(self.shape_[1:]) < MNISTNet.smallest
                name = "mlp" if len(self.shape_) == 1 else "small" if small else "mnist"
            if name not in BACKBONES:
                names = ", ".join(BACKBONES)
                raise ValueError(f"unknown backbone {name!r}; choose one of: auto, {names}, or give a module")
            return BACKBONES[name]()
        if not isinstance(self.backbone, Backbone):
            raise ValueError(f"backbone={self.backbone!r} is neither a name, nor a Backbone, nor a module of yours")
        return self.backbone

    def _takes_series(self, shape: tuple[int, ...]) -> bool:
        """Whether rows that may be grey images or series are series to an encoder of the user's."""
        if not isinstance(self.backbone, (nn.Module, Custom)):
            return False
        return takes_series(self._backbone().encoder(shape), shape)

    def _repeats(self, net: Network, method: Method, device: torch.device, work: float) -> bool:
        """Whether a recorded step, of ``work`` multiply-adds, is to be repeated."""
        if self.compile != "auto":
            if self.compile and device.type == "cpu" and any(isinstance(layer, nn.LSTM) for layer in net.modules()):
                warnings.warn("not compiled: PyTorch's LSTM cannot be recorded on a CPU", stacklevel=3)
                return False
            return bool(self.compile)
        small = work < WORTH_RECORDING * torch.get_num_threads()  # a large one would take memory for nothing
        pays = device.type == "cpu" and self.steps >= RECORDING_PAYS and small
        return self._known(method) and not method.reads_values and pays

    def _known(self, method: Method) -> bool:
        """Whether method and network are this package's own: others may keep values, or mind half precision."""
        return name_of(method) is not None and type(self._backbone()) in BACKBONES.values()

    def _device(self) -> torch.device:
        return device_of(self.device)

    def _build(
        self, normalize: Normalize, method: Method, start: Mapping[str, Tensor] | None = None, dim: int | None = None
    ) -> Network:
        """Build the network, on the device of the moment, from the settings and what `fit` saw of the data.

        ``start`` has weights of encoder and label head, which the method's parts may copy; ``dim`` is the width of the
        features where it is known: an encoder that is tried without values imports PyTorch's compiler.
        """
        self.settings_ = {name: kept(value) for name, value in self.get_params(deep=False).items()}
        backbone = self.backbone_ = kept(self._backbone())
        backbone.check(self.shape_)
        encoder = backbone.encoder(self.shape_)
        dim = dim or feature_width(encoder, normalize.encoded(self.shape_))
        n_classes = self._outputs
        net = Network(
            normalize,
            encoder,
            backbone.head(dim, n_classes),
            dim=dim,
            n_classes=n_classes,
            n_domains=self.n_domains_,
            domain_hidden=backbone.domain_hidden,
            encoding=self.encoding,
        )
        if start is not None:
            net.load_state_dict(start)
        parts = method.build(net)
        if not isinstance(parts, Mapping):
            kind, name = type(parts).__name__, type(method).__name__
            raise TypeError(f"{name} builds a {kind}; expected its parts by name: {{'critic': …}}, or {{}}")
        if taken_names := sorted({"encoder", "head", "normalize"} & parts.keys()):
            raise ValueError(
                f"{type(method).__name__} builds a part {taken_names[0]!r}: the network has one; rename it"
            )
        net.parts.update(parts)
        check_held(method, set(net.parameters()))
        if extra := [name for name, values in net.state_dict().items() if not isinstance(values, Tensor)]:
            raise ValueError(f"{extra[0]} is no tensor, and files hold nothing else: keep it in a buffer")
        drawn = ("encoder", "head") if start is not None else ()
        for player in net.players:
            if player in drawn:
                continue
            if player != "encoder" or not isinstance(backbone, Custom):
                initialize(net.module_of(player), self.initialization)
        return net

    def _optimizer(self, net: Network, method: Method) -> Optimizer:
        factors = method.learning_rates()
        known = ("encoder", "head", *net.parts)
        if negative := [player for player, factor in factors.items() if not factor >= 0]:
            raise ValueError(f"learning_rates has {factors[negative[0]]!r} for {negative[0]}: give 0 or more")
        if unknown := [player for player, factor in factors.items() if factor != 1 and player not in known]:
            raise ValueError(f"learning_rates names {unknown[0]!r}; the players are: {', '.join(known)}")
        by_rate: dict[float, list[nn.Parameter]] = {}  # few groups: each costs a call in every step
        taken: set[nn.Parameter] = set()
        for player in known:  # frozen weights too: a callback may thaw them
            own = [p for p in net.module_of(player).parameters() if p not in taken]  # a part may hold some of another
            by_rate.setdefault(self.lr * factors.get(player, 1.0), []).extend(own)
            taken.update(own)
        groups = [(parameters, lr) for lr, parameters in by_rate.items() if parameters]
        return Optimizer(groups, self.optimizer, self.momentum, self.weight_decay, self.clip_norm)

    @usual_modes()
    def _map(self, X: Any, function: Callable[[Tensor, Tensor], Tensor]) -> np.ndarray:
        """Return a function of (features, logits) for all rows, in evaluation mode, block by block."""
        check_is_fitted(self, "network_")
        x = arrange(X, self.columns_, "the data")
        x = x.tocsr() if hasattr(x, "tocsr") else x
        if not (type(x) in (np.ndarray, np.memmap) or hasattr(x, "tocsr") or hasattr(x, "iloc")):
            x = as_inputs(x, "the data")  # the others are converted block by block
        match_inputs(block_of(x, slice(1)), self.shape_, np.dtype(self.dtype_), "the data")
        net = self.network_
        device = net.normalize.mean.device
        work = net.work(self.shape_)
        count = x.shape[0]
        rows = min(count, rows_at_once(work, device))
        half = torch.bfloat16 if self.precision == "bf16" else torch.float32
        whole = np.empty(0)  # results kept block by block would lie scattered in memory, and nothing large fit between
        with torch.inference_mode(), threads_for(work * rows), autocast(device, half)(), evaluating(net):
            for i in range(0, count, rows):
                block = block_of(x, slice(i, i + rows))
                values = function(*net(tensor_of(block).to(device))).cpu().numpy()
                if not i:
                    whole = np.empty((count, *values.shape[1:]), values.dtype)
                whole[i : i + rows] = values
        return whole

    def transform(self, X: Any) -> np.ndarray:
        """Return the encoder's features, float32 (n, dim)."""
        return self._map(X, lambda features, _: features.float())

    def predict_domain(self, X: Any) -> np.ndarray:
        """Return the domain that the domain head takes every row for, int (n,): sources 0 … S-1, target S.

        Raises
        ------
        ValueError
            The method has no domain head.
        """
        check_is_fitted(self, "network_")
        if "domain" not in self.network_.parts:
            name = self.settings_["method"]
            raise ValueError(f"the method {name!r} trains no domain head; DANN does, and others that play against one")
        net, method = self.network_, self.method_
        return self._map(X, lambda f, g: logits_of_domains(net, method.domain_input(net, f, g)).argmax(1))

    def config(self) -> dict[str, Any]:
        """Return the settings as JSON values: what rebuilds this estimator."""
        return as_json(self.get_params(deep=False))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model into one safetensors file: weights, and the settings of the training as JSON in its metadata.

        The file appears whole or not at all, and holds nothing that could be executed.
        """
        check_is_fitted(self, "network_")
        adapter = as_json(self.settings_)
        # what a name stands for may have other settings in later versions
        adapter |= {"method": described("method", self.method_), "backbone": described("backbone", self.backbone_)}
        config = {
            "version": runs.version(),
            "task": self.task,
            "adapter": adapter,
            "labels": self._label_config(),
            "columns": self.columns_,
            "shape": list(self.shape_),
            "dtype": self.dtype_,
            "n_domains": self.n_domains_,
            "dim": self.network_.dim,
            "seed": self.seed_,
            "history": self.history_,
            "events": [list(event) for event in self.events_],
            "precision": str(self.precision_),
        }
        return runs.save_model(path, self.network_.state_dict(), config)

    @classmethod
    @usual_modes()
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        method: Method | None = None,
        backbone: nn.Module | Backbone | None = None,
        augmentation: Augmentation | None = None,
        strong_augmentation: Augmentation | None = None,
        device: str = "auto",
    ) -> Self:
        """Read a model that `save` of such an estimator wrote.

        Parameters
        ----------
        path : path
        method, backbone, augmentation, strong_augmentation : optional
            Objects of your own classes, where the model was trained with such: files hold no code.
        device : str
            Where to put it, as in the constructor.

        Raises
        ------
        FileNotFoundError
        ModelFileError
            The file is truncated, altered, from a newer version, or no model file.
        """
        refuse_class(method)
        tensors, config = runs.load_model(path)
        if config.get("task") != cls.task:
            other = {"regression": "DomainRegressor", "classification": "DomainAdapter"}.get(str(config.get("task")))
            hint = f": in Python, {other}.load reads it" if other else ""
            raise runs.ModelFileError(
                f"{path} is a model for {config.get('task')}, and {cls.__name__} for {cls.task}{hint}"
            )
        try:
            params = dict(config["adapter"])
            check_layers([params["method"], params["backbone"]], len(tensors))
            params["method"] = named(params["method"], method_of, method, "method")
            own = {"backbone": backbone, "augmentation": augmentation, "strong_augmentation": strong_augmentation}
            for key, kinds in OBJECTS.items():
                make = lambda name, kinds=kinds: kinds[name]()  # noqa: E731
                params[key] = named(params.get(key, "none"), make, own[key], key)
            if isinstance(params.get("class_weight"), list):
                params["class_weight"] = {label: float(weight) for label, weight in params["class_weight"]}
            adapter = cls(**{**params, "device": device})
            adapter._restore_labels(config["labels"])
            adapter.columns_, adapter.shape_ = config["columns"], tuple(config["shape"])
            adapter.dtype_, adapter.n_domains_ = str(np.dtype(config["dtype"])), config["n_domains"]
            adapter.n_features_in_, adapter.seed_ = adapter.shape_[0], config["seed"]
            adapter.history_, adapter.method_ = config["history"], adapter._method()
            adapter.events_ = [Event(*event) for event in config.get("events", [])]
            adapter.precision_ = torch.bfloat16 if config.get("precision") == "torch.bfloat16" else torch.float32
            mean, scale = tensors["normalize.mean"], tensors["normalize.scale"]
            if not (adapter.columns_ is None or all(isinstance(name, str) for name in adapter.columns_)):
                raise ValueError("its columns have names that are no text")
            if {np.broadcast_shapes(t.shape, (1, *adapter.shape_)) for t in (mean, scale)} != {(1, *adapter.shape_)}:
                raise ValueError(f"its rows have shape {adapter.shape_}, and are scaled by other shapes")
            known = method is None and backbone is None
            # shapes alone, where no code of the user's may look at values: sizes that the file does not back with
            # weights then cost no memory
            with torch.device("meta") if known else isolated_seed(0, torch.device("cpu")):
                normalize = Normalize(mean, scale, per_image=adapter.scaling == "image")
                net = adapter._build(normalize, adapter.method_, dim=int(config.get("dim", 0)) if known else None)
            fits(tensors, net.state_dict())
            # in memory of their own: in the file's they lie anywhere, and products of other alignment round otherwise
            net.load_state_dict({name: values.clone() for name, values in tensors.items()}, assign=True)
        except runs.ModelFileError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise runs.ModelFileError(f"{path} does not describe a model of this version: {error}") from error
        target = adapter._device()
        net.to(target)
        net.arrange(memory_format_of(net.encoder, normalize.encoded(adapter.shape_)))
        adapter.network_ = net.requires_grad_(True).eval()
        return adapter


def parts_of(method: Method) -> list[Method]:
    """Return a method, and those that it is a sum of."""
    return [method, *(method.methods.values() if isinstance(method, Sum) else ())]


def plain_values(method: Method) -> dict[str, Any]:
    """Return the attributes of a method that are numbers or text, or lists of them, as PyTorch's files take them."""

    def takes(value: Any) -> bool:
        return all(map(takes, value)) if type(value) in (list, tuple) else type(value) in PLAIN

    return {name: value for name, value in vars(method).items() if takes(value)}


def check_held(method: Method, trained: set[nn.Parameter]) -> None:
    """Refuse a method with weights of its own that no optimiser would know of."""
    for part in parts_of(method):
        for name, value in vars(part).items():
            if isinstance(value, nn.Module) and any(p.requires_grad and p not in trained for p in value.parameters()):
                raise ValueError(
                    f"{type(part).__name__} holds weights in {name!r} that nothing would train: return the module "
                    "from build, or freeze it with requires_grad_(False)"
                )


def given_up(events: Sequence[Event]) -> list[Event]:
    """Return the events of a training that was given up: they are over, with what they were alarms of."""
    return [event._replace(over=event.step) if event.over is None else event for event in events]


def block_of(x: Any, rows: slice) -> np.ndarray:
    """Return some rows of inputs as `as_inputs` has them, and its complaints about the whole where it has any."""
    try:
        return as_inputs((x.iloc if hasattr(x, "iloc") else x)[rows], "the data")
    except (ValueError, IndexError):
        as_inputs(x, "the data")
        raise


def warn_of_small(sources: Sequence[Domain], sizes: Sequence[int]) -> None:
    """Warn of sources of which every batch has each row many times."""
    for source, size in zip(sources, sizes, strict=False):
        if len(sources) > 1 and size > OFTEN * len(source.x):
            warnings.warn(
                f"{source.name} has {len(source.x)} rows, and every batch takes {size} of it, as many as of the other "
                "sources: leave it out, or join it with another, if it is no domain by itself",
                UserWarning,
                stacklevel=5,
            )


def scored(X: Any, y: Any, sample_weight: Any, unknown: Callable[[Any], bool]) -> tuple[Any, Any, Any]:
    """Return the rows, labels and weights whose label is known; all as they are where each is.

    Raises
    ------
    ValueError
        No label is known, or labels or weights are not one a row.
    """
    labels = np.asarray(unmasked(y), dtype=object)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    left_out = labels.ndim == 1 and np.array([unknown(label) for label in labels], dtype=bool)
    if not np.any(left_out):
        objects = np.asarray(y).dtype.kind == "O"  # scikit-learn takes no numbers in such
        return X, np.array(labels.tolist()) if objects else y, sample_weight
    check_consistent_length(X, labels, sample_weight)
    known = np.flatnonzero(~left_out)
    if not len(known):
        raise ValueError(f"none of the {len(labels)} labels is known: there is nothing to score")
    weight = None if sample_weight is None else np.asarray(sample_weight)[known]
    return taken(X, known), np.array(labels[known].tolist()), weight


def taken(X: Any, rows: np.ndarray) -> Any:
    """Return some rows of an array, a sparse matrix or a data frame."""
    if hasattr(X, "tocsr"):
        return X.tocsr()[rows]
    return (
        X.iloc[rows]
        if hasattr(X, "iloc")
        else (X if hasattr(X, "shape") or hasattr(X, "columns") else np.asarray(X))[rows]
    )
