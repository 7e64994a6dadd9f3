"""skada's DANN, which trains through skorch. λ and the rate stay constant; the label head sees the target too."""

import numpy as np
import torch
from gate import EPOCHS, HALF, LR, MOMENTUM, ROWS, STRENGTH, WEIGHT_DECAY, Gate, floats
from network import parts
from skada.deep import DANN
from skada.deep.modules import GradientReversalLayer
from skorch.callbacks import Callback
from torch import nn

gate = Gate()
encoder, head, domain_head = parts()


class Net(nn.Module):
    """Encoder and label head."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x, sample_weight=None):
        """Return logits."""
        return self.head(self.encoder(x))


class DomainHead(nn.Module):
    """The domain head behind their layer."""

    def __init__(self):
        super().__init__()
        self.head = domain_head

    def forward(self, x, sample_weight=None):
        """Return probabilities."""
        return torch.sigmoid(self.head(GradientReversalLayer.apply(x, STRENGTH)).squeeze(1))


class Steps(Callback):
    """Tells the gate."""

    def on_batch_end(self, net, **kwargs):
        """Count a step."""
        gate()


(x, y), (x_target, _) = floats(0), floats(1)
net = DANN(
    Net(),
    layer_name="encoder",
    domain_classifier=DomainHead(),
    optimizer=torch.optim.SGD,
    lr=LR,
    optimizer__momentum=MOMENTUM,
    optimizer__weight_decay=WEIGHT_DECAY,
    batch_size=HALF,
    max_epochs=EPOCHS,
    train_split=None,
    callbacks=[Steps()],
)
domain = np.concatenate([np.ones(ROWS, int), -2 * np.ones(ROWS, int)])
net.fit(np.concatenate([x, x_target]), np.concatenate([y, -np.ones(ROWS, int)]), sample_domain=domain)
