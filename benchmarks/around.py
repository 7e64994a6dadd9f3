"""What `mnist-m` spends around its training: data, test rows, proxy A-distance, embeddings, figures, model file.

    python benchmarks/around.py [--steps 200] [--json FILE]

None may take longer than the training that it looks at. Trains a few steps only: the others do not depend on them.
Needs the data of `dann reproduce mnist-m`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from turns import report

from dann.datasets import mnist_m
from dann.experiments import EXPERIMENTS
from dann.experiments.mnist_m import draw
from dann.experiments.recipes import RECIPES
from dann.experiments.study import Study
from dann.metrics import proxy_a_distance


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []

    def timed(name, function):
        start = time.perf_counter()
        result = function()
        rows.append({"part": name, "s": round(time.perf_counter() - start, 2)})
        return result

    module = sys.modules["dann.datasets.mnist_m"]
    stored, module.cached = module.cached, lambda name, key, build: build()
    timed("build the data", lambda: mnist_m(seed=0, binarise=False))
    module.cached = stored
    task = timed("load the data", lambda: mnist_m(seed=0, binarise=False))
    paper = RECIPES["tuned"]
    models = {"dann": paper.adapter(steps=args.steps), "source-only": paper.adapter("source-only", steps=args.steps)}
    for name, model in models.items():
        timed(f"{args.steps} steps of {name}", lambda m=model: m.fit(task.source.x, task.source.y, task.target.x))
    training = rows[-2]["s"] / args.steps * paper.settings["steps"]
    rows.append({"part": f"so {paper.settings['steps']} steps of dann", "s": round(training, 1)})
    model = models["dann"]
    timed("evaluate all test rows", lambda: [model.evaluate(t.x, t.y) for t in (task.source_test, task.target_test)])
    sides = [model.transform(t.x[:2000]) for t in (task.source_test, task.target_test)]
    timed("proxy A-distance", lambda: proxy_a_distance(*sides))
    with tempfile.TemporaryDirectory() as folder:
        study = Study(EXPERIMENTS["mnist-m"], Path(folder), [0])
        timed("figures, t-SNE included", lambda: draw(study, task, models))
        timed("save", lambda: model.save(Path(folder) / "model.safetensors"))
    report("around", rows, args.json, steps=args.steps)


if __name__ == "__main__":
    main()
