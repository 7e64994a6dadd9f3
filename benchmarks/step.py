"""Cost of a training step of the paper's network on 64 + 64 images, beside other loops and libraries.

    python benchmarks/step.py [--others FOLDER] [--bf16] [--device cpu] [--turns 30] [--steps 5] [--threads 1]
                              [--json FILE]

Every loop is a process of its own and trains DANN on the same random images with SGD; the first lines of the files in
benchmarks/loops say what each does differently. `--others` adds pytorch-adapt, skada and ADAPT, each in an environment
that is made in FOLDER when it is not there; they run on the CPU. Times are CPU times, wall times with several threads
or on a GPU, where one loop more repeats a CUDA graph.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from turns import Worker, clock_for, compared, report, take_turns

OTHERS = {
    "pytorch-adapt": (
        "pytorch_adapt_dann.py",
        ["torch==2.13.0"],
        ["pytorch-adapt==0.0.83", "torchvision", "setuptools<82"],
    ),
    "skada": ("skada_dann.py", ["torch==2.13.0"], ["skada==0.6.0", "skorch==1.4.0"]),
    "adapt": ("adapt_dann.py", ["tensorflow-cpu==2.21.0"], ["adapt==0.4.5"]),
}


def environment(folder, name, first, then):
    """Return the Python of a library's own environment, which is made, in two steps, if it is not there."""
    python = folder / name / "bin" / "python"
    if not (folder / name / "made").exists():
        print(f"making {folder / name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / name], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *first], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *first, *then], check=True)  # first: to keep its version
        (folder / name / "made").touch()
    return str(python)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--others", type=Path)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    scripts = {"dann": ("ours.py", "fp32"), "careful": ("careful.py",), "naive": ("naive.py",)}
    if args.bf16:
        scripts |= {"dann bf16": ("ours.py", "bf16"), "careful bf16": ("careful.py", "bf16")}
    if args.device != "cpu":
        scripts |= {"dann compiled": ("ours.py", "fp32", "compile")}
        scripts |= {"dann bf16 compiled": ("ours.py", "bf16", "compile")} if args.bf16 else {}
    workers = {
        name: Worker(script, args.device, *more, threads=args.threads) for name, (script, *more) in scripts.items()
    }
    for name, (script, *requirements) in OTHERS.items() if args.others else ():
        workers[name] = Worker(script, python=environment(args.others, name, *requirements), threads=args.threads)
    times = take_turns(workers, args.turns, args.steps, clock_for(args.device, args.threads))
    rows = compared(times, "dann")
    for row in rows:
        row["peak MB"] = round(workers[row["loop"]].close()["peak"])
        row["versions"] = " ".join(f"{k} {v}" for k, v in workers[row["loop"]].versions.items())
    report("step", rows, args.json, turns=args.turns, steps=args.steps, threads=args.threads, device=args.device)


if __name__ == "__main__":
    main()
