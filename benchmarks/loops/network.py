"""The paper's MNIST network, as PyTorch users write it; ReLU before pooling, as most do, or behind it."""

from torch import nn


def parts(pool_first=False):
    """Return encoder, label head and domain head."""

    def block(inputs, outputs):
        rest = [nn.MaxPool2d(2), nn.ReLU()] if pool_first else [nn.ReLU(), nn.MaxPool2d(2)]
        return [nn.Conv2d(inputs, outputs, 5), *rest]

    encoder = nn.Sequential(*block(3, 32), *block(32, 48), nn.Flatten())
    head = nn.Sequential(nn.Linear(768, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    return encoder, head, nn.Sequential(nn.Linear(768, 100), nn.ReLU(), nn.Linear(100, 1))
