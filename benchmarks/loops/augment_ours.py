"""The strong augmentation of images, as trainings call it: a batch of bytes in, floats out."""

import torch
from gate import HALF, Gate, images

from dann.augmentation import PRESETS

gate = Gate()
x = torch.from_numpy(images(0)[0])
generator = torch.Generator().manual_seed(0)
strong = PRESETS["strong"][3]
gate()
while True:
    rows = torch.randint(len(x), (HALF,))
    strong(x[rows], generator)
    gate()
