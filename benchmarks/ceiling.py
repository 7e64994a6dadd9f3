"""How close a training step of the paper's network comes to the arithmetic that the processor can do.

    python benchmarks/ceiling.py [--turns 10] [--steps 5] [--threads 1] [--json FILE]

Counts the floating point operations of a step, and measures the rates of a matrix product and of the network's second
convolution in turns with it, in single precision and in bfloat16; then the profile's largest costs.
"""

import argparse
import statistics
import sys
from itertools import repeat
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from turns import report, stepper, take_turns

sys.path.insert(0, str(Path(__file__).parent / "loops"))
from gate import HALF, TOTAL, images

from dann.domains import Domains
from dann.engine import train
from dann.experiments.recipes import RECIPES
from dann.functional import annealing
from dann.machine import tuned
from dann.network import Normalize
from dann.streams import ArrayStream

SIDE = 1024  # of the matrices


def training(precision):
    """Yield after every step."""
    (x, y), (x_target, _) = images(0), images(1)
    estimator = RECIPES["tuned"].adapter(averaging=0.0)
    domains = Domains.from_arrays(x, y, x_target)
    estimator.classes_, estimator.shape_, estimator.n_domains_ = domains.classes, domains.shape, 2
    net = estimator._build(Normalize.fit([d.x for d in domains.all], "mean"), estimator.method)
    net.to(memory_format=torch.channels_last)
    stream, optimizer = ArrayStream(domains, HALF, seed=0), estimator._optimizer(net, estimator.method)
    return train(net, estimator.method, stream, optimizer, TOTAL, schedule=annealing, precision=precision)


def product(precision):
    """Yield after every matrix product."""
    a, b = (torch.randn(SIDE, SIDE).to(precision) for _ in range(2))
    return (a @ b for _ in repeat(None))


def convolution(precision):
    """Yield after every forward and backward pass of the second convolution."""
    x = torch.randn(2 * HALF, 32, 12, 12).to(precision, memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(48, 32, 5, 5).to(precision, memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn(2 * HALF, 48, 8, 8).to(precision, memory_format=torch.channels_last)
    while True:
        yield torch.autograd.grad(F.conv2d(x, weight), (x, weight), gradient)


def operations(loop):
    """Count the floating point operations of a step."""
    with FlopCounterMode(display=False) as counter:
        next(loop)
    return counter.get_total_flops()


def costs(loop, steps=20):
    """Return the operations that take most of a step's time, and their shares."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            next(loop)
    events = sorted(seen.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return {event.key: f"{event.self_cpu_time_total / total:.0%}" for event in events[:6]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loops, work = {}, {}
    for name, precision in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for kind, make in (("step", training), ("product", product), ("convolution", convolution)):
            loop = make(precision)
            work[f"{kind} {name}"], loops[f"{kind} {name}"] = operations(loop), loop
    with tuned(1e8 * args.threads):
        clock = "cpu" if args.threads == 1 else "wall"
        times = take_turns({name: stepper(loop) for name, loop in loops.items()}, args.turns, args.steps, clock)
        largest = {name: costs(loops[f"step {name}"]) for name in ("fp32", "bf16")}
    rates = {name: [work[name] / ms / 1e6 for ms in own] for name, own in times.items()}  # GFLOP/s
    rows = []
    for name in ("fp32", "bf16"):
        row = {"precision": name, "GFLOP a step": round(work[f"step {name}"] / 1e9, 2)}
        row["step, ms"] = round(statistics.median(times[f"step {name}"]), 1)
        for kind in ("step", "product", "convolution"):
            row[f"{kind}, GFLOP/s"] = round(statistics.median(rates[f"{kind} {name}"]))
        for kind in ("product", "convolution"):
            shares = [a / b for a, b in zip(rates[f"step {name}"], rates[f"{kind} {name}"], strict=True)]
            row[f"of the {kind}'s rate"] = f"{statistics.median(shares):.0%}"
        rows.append({**row, "largest costs": ", ".join(f"{k} {v}" for k, v in largest[name].items())})
    report("ceiling", rows, args.json, turns=args.turns, steps=args.steps, threads=args.threads)


if __name__ == "__main__":
    main()
