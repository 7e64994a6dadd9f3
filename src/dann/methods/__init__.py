"""Methods by the names that the command line knows."""

from .base import Method
from .dann import DANN
from .domain_only import DomainOnly
from .source_only import SourceOnly
from .target_only import TargetOnly

METHODS: dict[str, type[Method]] = {
    "source-only": SourceOnly,
    "dann": DANN,
    "target-only": TargetOnly,
    "domain-only": DomainOnly,
}

__all__ = ["DANN", "METHODS", "DomainOnly", "Method", "SourceOnly", "TargetOnly"]
