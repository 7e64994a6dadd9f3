"""How close a training step of the paper's network comes to the arithmetic that the processor can do.

    python benchmarks/ceiling.py [--device cpu] [--turns 10] [--steps 5] [--threads 1] [--json FILE]

Counts the floating point operations of a step, and measures the rates of a matrix product and of the network's second
convolution in turns with it, in single precision and in bfloat16; then the profile's largest costs. Shares of a rate
are quartiles over the turns.
"""

import argparse
import statistics
import sys
from itertools import repeat
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from turns import clock_for, quartiles, report, stepper, take_turns, wait_for_gpu

sys.path.insert(0, str(Path(__file__).parent / "loops"))
from gate import HALF, TOTAL, images

from dann.domains import Domains
from dann.engine import train
from dann.experiments.recipes import RECIPES
from dann.functional import annealing
from dann.machine import tuned
from dann.network import Normalize
from dann.streams import ArrayStream

SIDE, SIDE_ON_GPU = 1024, 8192  # of the matrices


def training(precision, device):
    """Yield after every step."""
    (x, y), (x_target, _) = images(0), images(1)
    estimator = RECIPES["tuned"].adapter(averaging=0.0)
    domains = Domains.from_arrays(x, y, x_target)
    estimator.classes_, estimator.shape_, estimator.n_domains_ = domains.classes, domains.shape, 2
    net = estimator._build(Normalize.fit([d.x for d in domains.all], "mean"), estimator.method)
    net.to(device, memory_format=torch.channels_last)
    stream = ArrayStream(domains, HALF, seed=0, device=device)
    optimizer = estimator._optimizer(net, estimator.method)
    return train(net, estimator.method, stream, optimizer, TOTAL, schedule=annealing, precision=precision)


def product(precision, device):
    """Yield after every matrix product."""
    side = SIDE if device == "cpu" else SIDE_ON_GPU
    a, b = (torch.randn(side, side, device=device).to(precision) for _ in range(2))
    return (a @ b for _ in repeat(None))


def convolution(precision, device):
    """Yield after every forward and backward pass of the second convolution."""
    shapes = (2 * HALF, 32, 12, 12), (48, 32, 5, 5), (2 * HALF, 48, 8, 8)
    x, weight, gradient = (
        torch.randn(shape).to(device, precision, memory_format=torch.channels_last) for shape in shapes
    )
    for leaf in (x, weight):
        leaf.requires_grad_()
    while True:
        yield torch.autograd.grad(F.conv2d(x, weight), (x, weight), gradient)


def operations(loop):
    """Count the floating point operations of a step."""
    with FlopCounterMode(display=False) as counter:
        next(loop)
    return counter.get_total_flops()


def costs(loop, device, steps=20):
    """Return the operations that take most of a step's time on the device, and their shares."""
    on_gpu = [ProfilerActivity.CUDA] if device != "cpu" else []
    with profile(activities=[ProfilerActivity.CPU, *on_gpu]) as seen:
        for _ in range(steps):
            next(loop)
        wait_for_gpu()
    taken = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    # operations, which the times of their kernels are attributed to; kernels are events of their own besides
    times = {event.key: getattr(event, taken) for event in seen.key_averages() if event.device_type == DeviceType.CPU}
    largest = sorted(times, key=times.get, reverse=True)[:6]
    return {key: f"{times[key] / sum(times.values()):.0%}" for key in largest}


KINDS = {"step": training, "product": product, "convolution": convolution}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loops, work = {}, {}
    for name, precision in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for kind, make in KINDS.items():
            loop = make(precision, args.device)
            work[f"{kind} {name}"], loops[f"{kind} {name}"] = operations(loop), loop
    with tuned(1e8 * args.threads):
        clock = clock_for(args.device, args.threads)
        times = take_turns({name: stepper(loop) for name, loop in loops.items()}, args.turns, args.steps, clock)
        largest = {name: costs(loops[f"step {name}"], args.device) for name in ("fp32", "bf16")}
    rates = {name: [work[name] / ms / 1e6 for ms in own] for name, own in times.items()}  # GFLOP/s
    rows = []
    for name in ("fp32", "bf16"):
        row = {"precision": name, "GFLOP a step": round(work[f"step {name}"] / 1e9, 2)}
        row["step, ms"] = round(statistics.median(times[f"step {name}"]), 1)
        for kind in KINDS:
            row[f"{kind}, GFLOP/s"] = round(statistics.median(rates[f"{kind} {name}"]))
        for kind in ("product", "convolution"):
            shares = [a / b for a, b in zip(rates[f"step {name}"], rates[f"{kind} {name}"], strict=True)]
            row[f"of the {kind}'s rate"] = " / ".join(f"{share:.0%}" for share in quartiles(shares))
        row["largest costs"] = ", ".join(f"{key} {share}" for key, share in largest[name].items())
        row["turns"] = {f"{kind}, ms": [round(ms, 4) for ms in times[f"{kind} {name}"]] for kind in KINDS}
        rows.append(row)
    report("ceiling", rows, args.json, turns=args.turns, steps=args.steps, threads=args.threads, device=args.device)


if __name__ == "__main__":
    main()
