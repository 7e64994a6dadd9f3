"""Cost of a training step of a small network: a plain hand-written loop, the engine's, and the engine's recording.

All train DANN on points of the plane: 2-64-64 tanh units, a linear label head, a domain head of 32 units, Adam, 32 + 32
rows. "naive" reads its batches through a DataLoader a domain, as most scripts do; "plain" gathers them from resident
tensors.

    python benchmarks/toy.py [--turns 100] [--steps 20] [--width 32] [--batch 32] [--device cpu]
                             [--json FILE]
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from turns import clock_for, compared, report, stepper, take_turns

from dann import DANN, MLP, DomainAdapter, Domains
from dann.datasets import moons
from dann.engine import train
from dann.functional import warmup
from dann.machine import flushed_denormals
from dann.network import Normalize
from dann.streams import ArrayStream

TOTAL = 10**6  # steps of a training; none is taken to its end


def resident_batches(x, y, size):
    """Yield random rows of resident tensors."""
    while True:
        rows = torch.randint(len(x), (size,), device=x.device)
        yield x[rows], y[rows]


def loaded_batches(x, y, size):
    """Yield the batches of a DataLoader, epoch after epoch."""
    while True:
        yield from DataLoader(TensorDataset(x, y), size, shuffle=True, drop_last=True)


def by_hand(task, batches, args):
    """Yield after every step of a loop that a user would write."""
    encoder = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    head, domain_head = nn.Linear(64, 2), nn.Sequential(nn.Linear(64, args.width), nn.ReLU(), nn.Linear(args.width, 1))
    net = nn.ModuleList([encoder, head, domain_head]).to(args.device)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    sides = [[torch.from_numpy(a).to(args.device) for a in (side.x, side.y)] for side in (task.source, task.target)]
    together = zip(*(batches(x, y, args.batch) for x, y in sides), strict=True)
    for step, ((x, y), (x_target, _)) in enumerate(together):
        features = encoder(torch.cat([x, x_target]))
        label_loss = F.cross_entropy(head(features[: len(x)]), y)
        strength = warmup(step / TOTAL)
        domain = domain_head(features.detach() - strength * (features - features.detach())).squeeze(1)
        domain_loss = F.softplus(domain[: len(x)]).mean() + F.softplus(-domain[len(x) :]).mean()
        optimizer.zero_grad()
        (label_loss + domain_loss).backward()
        optimizer.step()
        yield


def by_engine(task, repeat, args):
    """Return the engine's loop, set up as the estimator sets it up."""
    method = DANN()
    estimator = DomainAdapter(
        method,
        MLP((64, 64), activation="tanh", domain_hidden=(args.width,)),
        lr=1e-3,
        weight_decay=0.0,
        lr_schedule="constant",
    )
    domains = Domains.from_arrays(task.source.x, task.source.y, task.target.x)
    estimator.classes_, estimator.shape_, estimator.n_domains_ = domains.classes, domains.shape, 2
    net = estimator._build(Normalize.fit([d.x for d in domains.all], "standard"), method)
    net.to(args.device)
    stream = ArrayStream(domains, args.batch, seed=0, device=args.device)
    return train(net, method, stream, estimator._optimizer(net, method), TOTAL, repeat=repeat)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = moons(seed=0)
    loops = {
        "naive": by_hand(task, loaded_batches, args),
        "plain": by_hand(task, resident_batches, args),
        "eager": by_engine(task, False, args),
        "recorded": by_engine(task, True, args),
    }
    with flushed_denormals():
        advance = {name: stepper(loop) for name, loop in loops.items()}
        times = take_turns(advance, args.turns, args.steps, clock_for(args.device))
    settings = {name: value for name, value in vars(args).items() if name != "json"}
    report("toy", compared(times, "recorded"), args.json, **settings)


if __name__ == "__main__":
    main()
