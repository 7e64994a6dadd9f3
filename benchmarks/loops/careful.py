"""A loop that a careful PyTorch user would write: resident uint8 tensors, one forward pass, channels-last, no reading.

python careful.py DEVICE [bf16]
"""

import contextlib
import sys

import torch
import torch.nn.functional as F
from gate import HALF, LR, MOMENTUM, ROWS, STRENGTH, TOTAL, WEIGHT_DECAY, Gate, images
from network import parts
from torch import nn

from dann.functional import annealing, warmup

gate, device, half = Gate(), sys.argv[1], "bf16" in sys.argv
encoder, head, domain_head = parts(pool_first=True)
net = nn.ModuleList([encoder, head, domain_head]).to(device, memory_format=torch.channels_last)
groups = [{"params": [*encoder.parameters(), *head.parameters()], "base_lr": LR}]
groups.append({"params": domain_head.parameters(), "base_lr": LR / 2})
optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
(x_s, y_s), (x_t, _) = ([torch.from_numpy(a).to(device) for a in images(seed)] for seed in (0, 1))
mean = (x_s.float().mean((0, 2, 3)) + x_t.float().mean((0, 2, 3)))[:, None, None] / 2
for step in range(TOTAL):
    progress = step / TOTAL
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * annealing(progress)
    i, j = (torch.randint(ROWS, (HALF,), device=device) for _ in range(2))
    x = ((torch.cat([x_s[i], x_t[j]]).float() - mean) / 255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext():
        features = encoder(x).float()
        logits = head(features[:HALF]).float()
        strength = STRENGTH * warmup(progress)
        domain = domain_head(features.detach() - strength * (features - features.detach())).squeeze(1).float()
    domain_loss = F.softplus(domain[:HALF]).mean() + F.softplus(-domain[HALF:]).mean()
    optimizer.zero_grad()
    (F.cross_entropy(logits, y_s[i]) + domain_loss).backward()
    optimizer.step()
    gate()
