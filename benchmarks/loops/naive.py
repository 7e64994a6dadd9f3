"""A plain loop as most scripts have it: a DataLoader a domain, two forward passes, losses read in every step."""

import math
import sys

import torch
from gate import EPOCHS, HALF, LR, MOMENTUM, STRENGTH, WEIGHT_DECAY, Gate, floats
from network import parts
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Reverse(torch.autograd.Function):
    """The usual gradient reversal layer."""

    @staticmethod
    def forward(ctx, x, strength):
        """Return the input."""
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        """Turn the gradient around."""
        return -ctx.strength * gradient, None


gate, device = Gate(), sys.argv[1]
encoder, head, domain_head = parts()
net = nn.ModuleList([encoder, head, domain_head]).to(device)
optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
label_loss, domain_loss = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()
sets = [TensorDataset(*map(torch.from_numpy, floats(seed))) for seed in (0, 1)]
loaders = [DataLoader(data, HALF, shuffle=True, drop_last=True) for data in sets]
steps = EPOCHS * len(loaders[0])
for epoch in range(EPOCHS):
    for i, ((x, y), (x_target, _)) in enumerate(zip(*loaders, strict=True)):
        x, y, x_target = x.to(device), y.to(device), x_target.to(device)
        p = (epoch * len(loaders[0]) + i) / steps
        strength = STRENGTH * (2 / (1 + math.exp(-10 * p)) - 1)
        optimizer.zero_grad()
        features = encoder(x)
        loss = label_loss(head(features), y)
        source = domain_loss(
            domain_head(Reverse.apply(features, strength)).squeeze(1), torch.zeros(HALF, device=device)
        )
        features = encoder(x_target)
        target = domain_loss(domain_head(Reverse.apply(features, strength)).squeeze(1), torch.ones(HALF, device=device))
        (loss + source + target).backward()
        optimizer.step()
        shown = f"{loss.item():.3f} {source.item():.3f} {target.item():.3f}"
        gate()
