"""What `mnist-m` spends around its training: data, test rows, proxy A-distance, embeddings, figures, model file.

    python benchmarks/around.py [--steps 200] [--repeats 3] [--device auto] [--json FILE]

None may take longer than the training that it looks at. Trains a few steps only: the others do not depend on them. All
parts are measured once a repeat, one after the other. Needs the data of `dann reproduce mnist-m`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from turns import report, wait_for_gpu

from dann.datasets import mnist_m
from dann.experiments import EXPERIMENTS
from dann.experiments.mnist_m import draw
from dann.experiments.recipes import RECIPES
from dann.experiments.study import Study
from dann.metrics import proxy_a_distance

PAPER = RECIPES["tuned"]
METHODS = {"dann": None, "source-only": "source-only"}  # None is the recipe's adversary


def measure(timed, steps, device):
    """Do everything once, each part by ``timed(name, function)``."""
    module = sys.modules["dann.datasets.mnist_m"]
    stored, module.cached = module.cached, lambda name, key, build: build()
    timed("build the data", lambda: mnist_m(seed=0, binarise=False))
    module.cached = stored
    task = timed("load the data", lambda: mnist_m(seed=0, binarise=False))
    models = {name: PAPER.adapter(method, steps=steps, device=device) for name, method in METHODS.items()}
    for name, model in models.items():
        timed(f"{steps} steps of {name}", lambda m=model: m.fit(task.source.x, task.source.y, task.target.x))
    model = models["dann"]
    timed("evaluate all test rows", lambda: [model.evaluate(t.x, t.y) for t in (task.source_test, task.target_test)])
    sides = [model.transform(t.x[:2000]) for t in (task.source_test, task.target_test)]
    timed("proxy A-distance", lambda: proxy_a_distance(*sides))
    with tempfile.TemporaryDirectory() as folder:
        study = Study(EXPERIMENTS["mnist-m"], Path(folder), [0])
        timed("figures, t-SNE included", lambda: draw(study, task, models))
        timed("save", lambda: model.save(Path(folder) / "model.safetensors"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    times = {}

    def timed(name, function):
        start = time.perf_counter()
        result = function()
        wait_for_gpu()
        times.setdefault(name, []).append(time.perf_counter() - start)
        if name == f"{args.steps} steps of dann":
            whole = PAPER.settings["steps"]
            times.setdefault(f"so {whole} steps of dann", []).append(times[name][-1] / args.steps * whole)
        return result

    for _ in range(args.repeats):
        measure(timed, args.steps, args.device)
    rows = []
    for name, own in times.items():
        row = {"s": statistics.median(own), "min": min(own), "max": max(own)}
        row = {"part": name, **{key: round(value, 2) for key, value in row.items()}}
        rows.append({**row, "turns": [round(s, 4) for s in own]})
    settings = {"steps": args.steps, "repeats": args.repeats, "device": args.device}
    report("around", rows, args.json, threads=torch.get_num_threads(), **settings)


if __name__ == "__main__":
    main()
