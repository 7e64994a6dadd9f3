"""Cost of varying a batch of 64 images of 3×28×28 strongly, beside Kornia, and beside the step that it belongs to.

    python benchmarks/augment.py [--others FOLDER] [--turns 30] [--steps 20] [--threads 1] [--json FILE]

Every loop is a process of its own; `--others` adds Kornia, in an environment that is made in FOLDER when it is not
there. "step" is a training step of the paper's network on 64 + 64 images, in single precision. Times are CPU times,
wall times with several threads.
"""

import argparse
from pathlib import Path

from step import environment
from turns import Worker, clock_for, compared, report, take_turns

KORNIA = ["torch==2.13.0"], ["kornia==0.9.0"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--others", type=Path)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    workers = {
        "dann": Worker("augment_ours.py", threads=args.threads),
        "step": Worker("ours.py", "cpu", "fp32", threads=args.threads),
    }
    if args.others:
        python = environment(args.others, "kornia", *KORNIA)
        workers["kornia"] = Worker("augment_kornia.py", python=python, threads=args.threads)
    rows = compared(take_turns(workers, args.turns, args.steps, clock_for("cpu", args.threads)), "dann")
    for row in rows:
        worker = workers[row["loop"]]
        row["peak MB"] = round(worker.close()["peak"])
        row["versions"] = " ".join(f"{k} {v}" for k, v in worker.versions.items())
    report("augment", rows, args.json, turns=args.turns, steps=args.steps, threads=args.threads)


if __name__ == "__main__":
    main()
