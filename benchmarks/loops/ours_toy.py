"""The estimator on points of the plane: 2-64-64 tanh units, a domain head of 32, Adam, 32 + 32 rows."""

import sys

from gate import Gate

from dann import DANN, MLP, DomainAdapter
from dann.datasets import moons

gate = Gate()
task = moons(seed=0)
network = MLP((64, 64), activation="tanh", domain_hidden=(32,))
settings = {"lr": 1e-3, "weight_decay": 0.0, "lr_schedule": "constant"}
estimator = DomainAdapter(DANN(), network, batch_size=32, steps=10**6, log_every=10**6, device=sys.argv[1], **settings)
estimator.fit(task.source.x, task.source.y, task.target.x, on_step=gate)
