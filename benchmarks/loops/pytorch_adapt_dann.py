"""pytorch-adapt's DANN hook, fed from resident tensors: its cheapest way. λ and the learning rate stay constant."""

import importlib.machinery
import sys
import types

import torch


class Absent(types.ModuleType):
    """Stands for torchvision, which is imported for a model zoo and does not load beside a CPU-only PyTorch."""

    __version__, __path__ = "0", ()

    def __getattr__(self, name):
        """Return a class of that name."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for name in ("torchvision", "torchvision.models", "torchvision.transforms", "torchvision.datasets"):
    sys.modules[name] = Absent(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)

from gate import HALF, LR, MOMENTUM, ROWS, STRENGTH, TOTAL, WEIGHT_DECAY, Gate, floats  # noqa: E402
from network import parts  # noqa: E402
from pytorch_adapt.hooks import DANNHook  # noqa: E402
from torch import nn  # noqa: E402

gate = Gate()
encoder, head, domain_head = parts()
models = {"G": encoder, "C": head, "D": nn.Sequential(domain_head, nn.Flatten(0))}
settings = {"lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
hook = DANNHook(
    [torch.optim.SGD(m.parameters(), **settings) for m in models.values()], gradient_reversal_weight=STRENGTH
)
(x_s, y_s), (x_t, _) = (map(torch.from_numpy, floats(seed)) for seed in (0, 1))
domains = {"src_domain": torch.zeros(HALF), "target_domain": torch.ones(HALF)}
for _ in range(TOTAL):
    i, j = torch.randint(ROWS, (HALF,)), torch.randint(ROWS, (HALF,))
    hook({**models, "src_imgs": x_s[i], "src_labels": y_s[i], "target_imgs": x_t[j], **domains})
    gate()
