"""Methods by the names that the command line knows."""

from difflib import get_close_matches

from .adda import ADDA
from .afn import AFN
from .atdoc import ATDOC
from .base import Method
from .bnm import BNM
from .cdan import CDAN
from .dan import DAN
from .dann import DANN
from .deep_coral import DeepCORAL
from .deep_jdot import DeepJDOT
from .dirt_t import DIRTT
from .domain_only import DomainOnly
from .entropy import EntropyMinimization, InformationMaximization
from .fixmatch import FixMatch
from .iwdan import IWCDAN, IWDAN
from .jan import JAN
from .mcc import MCC
from .mcd import MCD
from .mdd import MDD
from .normalization import TENT, AdaBN
from .pada import PADA
from .self_ensembling import SelfEnsembling
from .shot import SHOT
from .sliced_wasserstein import SlicedWasserstein
from .source_only import SourceOnly
from .sum import Sum
from .target_only import TargetOnly
from .vada import VADA
from .wdgrl import WDGRL

METHODS: dict[str, type[Method]] = {
    "source-only": SourceOnly,
    "dann": DANN,
    "cdan": CDAN,
    "iwdan": IWDAN,
    "iwcdan": IWCDAN,
    "pada": PADA,
    "mcd": MCD,
    "mdd": MDD,
    "adda": ADDA,
    "wdgrl": WDGRL,
    "vada": VADA,
    "deep-coral": DeepCORAL,
    "dan": DAN,
    "jan": JAN,
    "deep-jdot": DeepJDOT,
    "sliced-wasserstein": SlicedWasserstein,
    "entropy": EntropyMinimization,
    "information-maximization": InformationMaximization,
    "mcc": MCC,
    "bnm": BNM,
    "afn": AFN,
    "atdoc": ATDOC,
    "fixmatch": FixMatch,
    "self-ensembling": SelfEnsembling,
    "shot": SHOT,
    "dirt-t": DIRTT,
    "tent": TENT,
    "adabn": AdaBN,
    "target-only": TargetOnly,
    "domain-only": DomainOnly,
}

__all__ = [
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
    "method_of",
    "name_of",
]


def method_of(name: str) -> Method:
    """Make a method by its name, or the sum of several: "cdan+mcc".

    Raises
    ------
    ValueError
        There is no such method.
    """
    names = name.split("+")
    for part in names:
        if part not in METHODS:
            near = get_close_matches(part.lower(), METHODS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown method {part!r}; {hint}There are: {', '.join(METHODS)}; + joins several")
    methods = [METHODS[part]() for part in names]
    return methods[0] if len(methods) == 1 else Sum(*methods)


def name_of(method: Method) -> str | None:
    """Return the name from which `method_of` makes such a method; None if it holds a class from elsewhere."""
    names = {kind: name for name, kind in METHODS.items()}
    parts = list(method.methods.values()) if type(method) is Sum else [method]
    found = [names.get(type(part)) for part in parts]
    return None if None in found else "+".join(found)  # type: ignore[arg-type]
