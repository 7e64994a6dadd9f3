"""Cost of predicting with the paper's network: the estimator's way beside plain loops.

python benchmarks/predict.py [--rows 2000] [--turns 15] [--threads 1] [--device cpu] [--json FILE]
"""

import argparse
import sys
from itertools import repeat
from pathlib import Path

import torch
from turns import clock_for, compared, report, stepper, take_turns

sys.path.insert(0, str(Path(__file__).parent / "loops"))
from gate import images
from network import parts

from dann.experiments.recipes import RECIPES


def plain(x, device, channels_last, rows_at_once):
    """Predict again and again in a plain loop: floats beforehand, blocks of rows, no gradients."""
    encoder, head, _ = parts(pool_first=channels_last)
    net = torch.nn.Sequential(encoder, head).eval()
    floats = torch.from_numpy(x).float().div(255)
    net = net.to(device)
    if channels_last:
        net, floats = (a.to(memory_format=torch.channels_last) for a in (net, floats))
    with torch.inference_mode():
        while True:
            yield torch.cat([net(block.to(device)).softmax(1).cpu() for block in floats.split(rows_at_once)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    x, y = images(0)
    estimator, half = (
        RECIPES["tuned"]
        .adapter(steps=1)
        .set_params(precision=precision, device=args.device)
        .fit(x[:200], y[:200], x[200:400])
        for precision in ("fp32", "bf16")
    )
    x = x[: args.rows]
    loops = {
        "dann": (estimator.predict_proba(x) for _ in repeat(None)),
        "dann bf16": (half.predict_proba(x) for _ in repeat(None)),
        "plain, 512 rows at once": plain(x, args.device, False, 512),
        "channels-last, 512 rows": plain(x, args.device, True, 512),
        "channels-last, 64 rows": plain(x, args.device, True, 64),
    }
    clock = clock_for(args.device, args.threads)
    times = take_turns({name: stepper(loop) for name, loop in loops.items()}, args.turns, 1, clock)
    rows = [{**row, "µs a row": round(row["ms"] / args.rows * 1e3, 1)} for row in compared(times, "dann")]
    report(
        "predict", rows, args.json, rows_predicted=args.rows, turns=args.turns, threads=args.threads, device=args.device
    )


if __name__ == "__main__":
    main()
