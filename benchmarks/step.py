"""Cost of a training step of `dann reproduce mnist-m` against a plain hand-written PyTorch loop.

Both do the same work on the same kind of data: the paper's network, 64 + 64 rows from resident uint8 tensors, mean
subtraction, DANN's losses, SGD with momentum and weight decay, both schedules, averaged weights.

    python benchmarks/step.py [--turns 300] [--steps 1] [--threads 1]
"""

import argparse
import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from turns import summary, take_turns

from dann.domains import Domains
from dann.engine import WeightAverage, train
from dann.experiments.mnist_m import ADVERSARY, PRESETS, adapter
from dann.functional import annealing, warmup
from dann.network import Normalize
from dann.streams import ArrayStream

ROWS, TOTAL, HALF = 20_000, 8_600, 64


def images(seed):
    """Random images and labels: the cost of a step does not depend on what they show."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (ROWS, 3, 28, 28), dtype=np.uint8), rng.integers(0, 10, ROWS)


def plain_loop(source, labels, target):
    """Yield after every step of a loop that a careful user would write."""
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(32, 48, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()
    )
    head = nn.Sequential(nn.Linear(768, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    domain_head = nn.Sequential(nn.Linear(768, 100), nn.ReLU(), nn.Linear(100, 1))
    net = nn.ModuleList([encoder, head, domain_head]).to(memory_format=torch.channels_last)
    groups = [{"params": [*encoder.parameters(), *head.parameters()], "base_lr": 0.01}]
    groups.append({"params": domain_head.parameters(), "base_lr": 0.005})
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=1e-3)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    x_s, y_s, x_t = torch.from_numpy(source), torch.from_numpy(labels), torch.from_numpy(target)
    mean = (x_s.float().mean((0, 2, 3)) + x_t.float().mean((0, 2, 3)))[:, None, None] / 2
    for step in range(TOTAL):
        progress = step / TOTAL
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * annealing(progress)
        i, j = torch.randint(ROWS, (HALF,)), torch.randint(ROWS, (HALF,))
        x = ((torch.cat([x_s[i], x_t[j]]).float() - mean) / 255).contiguous(memory_format=torch.channels_last)
        features = encoder(x)
        label_loss = F.cross_entropy(head(features[:HALF]), y_s[i])
        strength = 0.5 * warmup(progress)
        domain = domain_head(features.detach() - strength * (features - features.detach())).squeeze(1)
        domain_loss = F.softplus(domain[:HALF]).mean() + F.softplus(-domain[HALF:]).mean()
        optimizer.zero_grad()
        (label_loss + domain_loss).backward()
        optimizer.step()
        average.update_parameters(net)
        yield


def our_loop(source, labels, target):
    """Yield after every step of the engine's loop, set up as the experiment sets it up."""
    estimator = adapter(ADVERSARY, {**PRESETS["paper"], "steps": TOTAL})
    domains = Domains.from_arrays(source, labels, target)
    estimator.classes_, estimator.shape_, estimator.n_domains_ = domains.classes, domains.shape, 2
    method = ADVERSARY
    net = estimator._build(Normalize.fit([d.x for d in domains.all], "mean"), method)
    net.to(memory_format=torch.channels_last)
    optimizer = estimator._optimizer(net, method)
    average = WeightAverage(net, estimator.averaging)
    for step in train(net, method, ArrayStream(domains, HALF, seed=0), optimizer, TOTAL, schedule=annealing):
        average.update(step.number + 1)
        yield


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    (source, labels), (target, _) = images(0), images(1)
    loops = {"plain": plain_loop(source, labels, target), "dann": our_loop(source, labels, target)}
    result = summary(take_turns(loops, args.turns, args.steps), "plain")
    print(json.dumps({**result, **vars(args), "torch": torch.__version__}, indent=1))


if __name__ == "__main__":
    main()
