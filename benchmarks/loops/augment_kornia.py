"""The same amounts by Kornia: each variation for every image, on floats in 0 … 1.

It scales both axes alike, always blurs fully, inverts all channels at once and erases to a constant.
"""

import kornia.augmentation as K
import torch
from gate import HALF, Gate, images

gate = Gate()
x = torch.from_numpy(images(0)[0])
torch.manual_seed(0)
strong = K.AugmentationSequential(
    K.RandomAffine(15, (2 / 28, 2 / 28), (1 / 1.2, 1.2), (-11.3, 11.3), padding_mode="border", p=1.0),
    K.RandomBoxBlur((3, 3), p=1.0),
    K.RandomContrast((1 / 1.5, 1.5), p=1.0),
    K.RandomRGBShift(0.3, 0.3, 0.3, p=1.0),
    K.RandomInvert(p=0.5),
    K.RandomGaussianNoise(0.0, 0.05, p=1.0),
    K.RandomErasing((0.01, 0.16), (1.0, 1.0), p=1.0),
)
gate()
with torch.no_grad():
    while True:
        rows = torch.randint(len(x), (HALF,))
        strong(x[rows].float() / 255)
        gate()
