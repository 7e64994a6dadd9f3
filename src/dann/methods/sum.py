"""Several methods at once."""

from typing import Any

from sklearn.base import clone
from torch import Tensor, nn

from ..domains import Domains
from ..network import Network, View
from .base import Method, Terms


def of_any(flag: str) -> Any:
    """Return the property that is True where the flag of one of the methods is."""
    return property(lambda self: any(getattr(method, flag) for method in self.methods.values()))


class Sum(Method):
    """Train on the label loss once and on all other terms of several methods: ``Sum(CDAN(), MCC(weight=0.5))``.

    The label loss is that of the method that has one of its own, such as IWDAN, or the usual one. Terms keep their
    names; of two of the same name the later one has its method's in front. Parameters are those of the
    parts, such as ``mcc__weight``.

    Parameters
    ----------
    *methods : Method
        Two or more of different classes, each with one objective: games of several moves cannot be summed.
    """

    def __init__(self, *methods: Method):
        self.methods = {type(method).__name__.lower(): method for method in methods}
        if len(self.methods) < max(len(methods), 2):
            raise ValueError(f"Sum takes two or more methods of different classes; got {list(methods)}")

    def __repr__(self) -> str:
        return f"Sum({', '.join(map(repr, self.methods.values()))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sum) and self.methods == other.methods

    __hash__ = None  # type: ignore[assignment]

    def __sklearn_clone__(self) -> "Sum":
        return Sum(*(clone(method) for method in self.methods.values()))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the methods by name and, if ``deep``, their parameters as ``name__parameter``."""
        params: dict[str, Any] = dict(self.methods)
        for name, method in self.methods.items() if deep else ():
            params |= {f"{name}__{key}": value for key, value in method.get_params().items()}
        return params

    def set_params(self, **params: Any) -> "Sum":
        """Set parameters of the methods, given as ``name__parameter``, or whole methods."""
        for key, value in params.items():
            name, _, parameter = key.partition("__")
            if name in self.methods and not parameter and isinstance(value, Method):
                self.methods[name] = value
                continue
            if name not in self.methods or not parameter:
                raise ValueError(f"Sum has no parameter {key!r}; it has: {', '.join(sorted(self.get_params()))}")
            self.methods[name].set_params(**{parameter: value})
        return self

    @property
    def rows_needed(self) -> int:  # type: ignore[override]
        """Rows on each side of a batch that all methods need."""
        return max(method.rows_needed for method in self.methods.values())

    @property
    def source_free(self) -> bool:  # type: ignore[override]
        """Whether all methods go on from a fitted model."""
        return all(method.source_free for method in self.methods.values())

    needs_pretraining = of_any("needs_pretraining")
    needs_classes = of_any("needs_classes")
    reads_values = of_any("reads_values")
    two_views = of_any("two_views")

    def check(self, domains: Domains) -> None:
        """Refuse what one of the methods refuses, games, and oracles."""
        for name, method in self.methods.items():
            if isinstance(method, Sum):
                raise ValueError("a Sum is no part of a Sum: give all methods to one")
            if type(method).moves is not Method.moves:
                raise ValueError(f"{name} plays a game of its own moves, which cannot be summed with other methods")
            if method.uses_target_labels:
                raise ValueError(f"{name} trains on target labels, and is no part of a method that does not")
            method.check(domains)
        own = [name for name, method in self.methods.items() if method.own_label]
        if len(own) > 1:
            raise ValueError(f"{' and '.join(own)} each have a label loss of their own: take one of them")
        rates: dict[str, float] = {}
        for method in self.methods.values():
            for player, rate in method.learning_rates().items():
                if rates.setdefault(player, rate) != rate:
                    raise ValueError(
                        f"two methods give {player!r} different learning rates: {rates[player]} and {rate}"
                    )

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the parts of all methods."""
        parts: dict[str, nn.Module] = {}
        for name, method in self.methods.items():
            for part, module in method.build(net).items():
                if part in parts:
                    raise ValueError(f"{name} and another method both train a part {part!r}: take one of them")
                parts[part] = module
        return parts

    def learning_rates(self) -> dict[str, float]:
        """Return the factors of all methods."""
        return {part: rate for method in self.methods.values() for part, rate in method.learning_rates().items()}

    def domain_input(self, net: Network, features: Tensor, logits: Tensor) -> Tensor:
        """Return what the domain head of the method that has one sees."""
        for method in self.methods.values():
            if type(method).domain_input is not Method.domain_input:
                return method.domain_input(net, features, logits)
        return features

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the other terms of all methods."""
        terms: Terms = {}
        for name, method in self.methods.items():
            for term, value in method.loss(net, source, target, progress).items():
                if term == "label" and method.own_label:
                    terms[term] = value
                elif term != "label" or term not in terms:
                    terms[f"{name} {term}" if term in terms else term] = value
        return terms
