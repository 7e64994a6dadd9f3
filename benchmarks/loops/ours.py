"""The estimator, set up as `dann reproduce mnist-m` sets it up, without the average of the weights.

python ours.py DEVICE [PRECISION] [compile]
"""

import sys

from gate import TOTAL, Gate, images

from dann.experiments.mnist_m import ADVERSARY, PRESETS, adapter

gate = Gate()
(x, y), (x_target, _) = images(0), images(1)
estimator = adapter(ADVERSARY, {**PRESETS["paper"], "steps": TOTAL, "averaging": 0.0})
estimator.set_params(device=sys.argv[1])
if "compile" in sys.argv:
    estimator.set_params(compile=True)
if len(sys.argv) > 2:
    estimator.set_params(precision=sys.argv[2])
estimator.fit(x, y, x_target, on_step=gate)
