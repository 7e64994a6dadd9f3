"""Methods by the names that the command line knows."""

from .adda import ADDA
from .afn import AFN
from .base import Method
from .bnm import BNM
from .cdan import CDAN
from .dan import DAN
from .dann import DANN
from .deep_coral import DeepCORAL
from .domain_only import DomainOnly
from .entropy import EntropyMinimization, InformationMaximization
from .jan import JAN
from .mcc import MCC
from .mcd import MCD
from .mdd import MDD
from .source_only import SourceOnly
from .target_only import TargetOnly
from .wdgrl import WDGRL

METHODS: dict[str, type[Method]] = {
    "source-only": SourceOnly,
    "dann": DANN,
    "cdan": CDAN,
    "mcd": MCD,
    "mdd": MDD,
    "adda": ADDA,
    "wdgrl": WDGRL,
    "deep-coral": DeepCORAL,
    "dan": DAN,
    "jan": JAN,
    "entropy": EntropyMinimization,
    "information-maximization": InformationMaximization,
    "mcc": MCC,
    "bnm": BNM,
    "afn": AFN,
    "target-only": TargetOnly,
    "domain-only": DomainOnly,
}

__all__ = [
    "ADDA",
    "AFN",
    "BNM",
    "CDAN",
    "DAN",
    "DANN",
    "JAN",
    "MCC",
    "MCD",
    "MDD",
    "METHODS",
    "WDGRL",
    "DeepCORAL",
    "DomainOnly",
    "EntropyMinimization",
    "InformationMaximization",
    "Method",
    "SourceOnly",
    "TargetOnly",
]
