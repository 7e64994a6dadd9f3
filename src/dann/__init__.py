"""Unsupervised domain adaptation: train on labelled source data, be right on unlabelled target data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import DomainAdapter
    from .assessment import Assessment, Estimate, assess, suggest_labels
    from .augmentation import Augmentation, ImageAugmentation, TableAugmentation
    from .backbones import BACKBONES, MLP, Backbone, ConvNet, Custom, GTSRBNet, MNISTNet, SmallNet, SVHNNet
    from .domains import Domains
    from .engine import Step
    from .estimator import TrainingCollapsed, TrainingDiverged, TrainingFailed, TrainingWarning
    from .evidence import Evidence
    from .functional import GradientReversal, annealing, domain_loss, reverse_gradient, warmup
    from .guards import Event
    from .methods import (
        ADDA,
        AFN,
        ATDOC,
        BNM,
        CDAN,
        DAN,
        DANN,
        DIRTT,
        IWCDAN,
        IWDAN,
        JAN,
        MCC,
        MCD,
        MDD,
        METHODS,
        PADA,
        SHOT,
        TENT,
        VADA,
        WDGRL,
        AdaBN,
        DeepCORAL,
        DeepJDOT,
        DomainOnly,
        EntropyMinimization,
        FixMatch,
        InformationMaximization,
        Method,
        SelfEnsembling,
        SlicedWasserstein,
        SourceOnly,
        Sum,
        TargetOnly,
    )
    from .metrics import classification_metrics, domain_accuracy, proxy_a_distance, regression_metrics
    from .network import Network, View, mlp
    from .regressor import DomainRegressor
    from .runs import ModelFileError
    from .selection import Candidate, Comparison, compare, reassess, reverse_risk
    from .tuning import tune
    from .validators import VALIDATORS

# Names are imported when they are first used, so that `import dann` and `dann --help` wait for neither PyTorch nor
# scikit-learn where they do not need them.
_HOME = {
    "adapter": ("DomainAdapter",),
    "assessment": ("Assessment", "Estimate", "assess", "suggest_labels"),
    "augmentation": ("Augmentation", "ImageAugmentation", "TableAugmentation"),
    "backbones": ("BACKBONES", "MLP", "Backbone", "ConvNet", "Custom", "GTSRBNet", "MNISTNet", "SVHNNet", "SmallNet"),
    "domains": ("Domains",),
    "engine": ("Step",),
    "estimator": ("TrainingCollapsed", "TrainingDiverged", "TrainingFailed", "TrainingWarning"),
    "evidence": ("Evidence",),
    "functional": ("GradientReversal", "annealing", "domain_loss", "reverse_gradient", "warmup"),
    "guards": ("Event",),
    "methods": (
        "ADDA",
        "AFN",
        "ATDOC",
        "BNM",
        "CDAN",
        "DAN",
        "DANN",
        "DIRTT",
        "IWCDAN",
        "IWDAN",
        "JAN",
        "MCC",
        "MCD",
        "MDD",
        "METHODS",
        "PADA",
        "SHOT",
        "TENT",
        "VADA",
        "WDGRL",
        "AdaBN",
        "DeepCORAL",
        "DeepJDOT",
        "DomainOnly",
        "EntropyMinimization",
        "FixMatch",
        "InformationMaximization",
        "Method",
        "SelfEnsembling",
        "SlicedWasserstein",
        "SourceOnly",
        "Sum",
        "TargetOnly",
    ),
    "metrics": ("classification_metrics", "domain_accuracy", "proxy_a_distance", "regression_metrics"),
    "network": ("Network", "View", "mlp"),
    "regressor": ("DomainRegressor",),
    "runs": ("ModelFileError",),
    "selection": ("Candidate", "Comparison", "compare", "reassess", "reverse_risk"),
    "tuning": ("tune",),
    "validators": ("VALIDATORS",),
}
_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ADDA",
    "AFN",
    "ATDOC",
    "BACKBONES",
    "BNM",
    "CDAN",
    "DAN",
    "DANN",
    "DIRTT",
    "IWCDAN",
    "IWDAN",
    "JAN",
    "MCC",
    "MCD",
    "MDD",
    "METHODS",
    "MLP",
    "PADA",
    "SHOT",
    "TENT",
    "VADA",
    "VALIDATORS",
    "WDGRL",
    "AdaBN",
    "Assessment",
    "Augmentation",
    "Backbone",
    "Candidate",
    "Comparison",
    "ConvNet",
    "Custom",
    "DeepCORAL",
    "DeepJDOT",
    "DomainAdapter",
    "DomainOnly",
    "DomainRegressor",
    "Domains",
    "EntropyMinimization",
    "Estimate",
    "Event",
    "Evidence",
    "FixMatch",
    "GTSRBNet",
    "GradientReversal",
    "ImageAugmentation",
    "InformationMaximization",
    "MNISTNet",
    "Method",
    "ModelFileError",
    "Network",
    "SVHNNet",
    "SelfEnsembling",
    "SlicedWasserstein",
    "SmallNet",
    "SourceOnly",
    "Step",
    "Sum",
    "TableAugmentation",
    "TargetOnly",
    "TrainingCollapsed",
    "TrainingDiverged",
    "TrainingFailed",
    "TrainingWarning",
    "View",
    "annealing",
    "assess",
    "classification_metrics",
    "compare",
    "domain_accuracy",
    "domain_loss",
    "mlp",
    "proxy_a_distance",
    "reassess",
    "regression_metrics",
    "reverse_gradient",
    "reverse_risk",
    "suggest_labels",
    "tune",
    "warmup",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("dann")
    if name not in _MODULES:
        raise AttributeError(f"module 'dann' has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
