"""The estimator, set up as `dann reproduce mnist-m` sets it up, without the average of the weights.

python ours.py DEVICE [PRECISION] [compile]
"""

import sys

from gate import TOTAL, Gate, images

from dann import DANN, DomainAdapter, MNISTNet

gate = Gate()
(x, y), (x_target, _) = images(0), images(1)
estimator = DomainAdapter(  # written out: compare.py runs it on other commits, which may have no recipes
    DANN(weight=0.5, lr_multiplier=0.5),
    MNISTNet(same_padding=False),
    steps=TOTAL,
    batch_size=64,
    optimizer="sgd",
    lr=0.01,
    lr_schedule="annealing",
    scaling="mean",
    initialization="he",
    weight_decay=1e-3,
    device=sys.argv[1],
)
if "compile" in sys.argv:
    estimator.set_params(compile=True)
if len(sys.argv) > 2:
    estimator.set_params(precision=sys.argv[2])
estimator.fit(x, y, x_target, on_step=gate)
