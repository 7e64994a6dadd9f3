"""The estimator, set up as `dann reproduce mnist-m` sets it up, without the average of the weights.

python ours.py [fp32 | bf16]
"""

import sys

from gate import TOTAL, Gate, images

from dann.experiments.mnist_m import ADVERSARY, PRESETS, adapter

gate = Gate()
(x, y), (x_target, _) = images(0), images(1)
estimator = adapter(ADVERSARY, {**PRESETS["paper"], "steps": TOTAL, "averaging": 0.0})
estimator.set_params(device="cpu")
if len(sys.argv) > 1:
    estimator.set_params(precision=sys.argv[1])
estimator.fit(x, y, x_target, on_step=gate)
