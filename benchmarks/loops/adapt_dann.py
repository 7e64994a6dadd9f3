"""ADAPT's DANN, which trains through Keras. λ and the learning rate stay constant; three gradients in each step."""

import numpy as np
import tensorflow as tf
from adapt.feature_based import DANN
from gate import EPOCHS, HALF, LR, MOMENTUM, STRENGTH, WEIGHT_DECAY, Gate, floats
from keras import Input, Sequential, layers, optimizers
from keras.callbacks import LambdaCallback

tf.config.threading.set_intra_op_parallelism_threads(int(__import__("os").environ["OMP_NUM_THREADS"]))
tf.config.threading.set_inter_op_parallelism_threads(1)
gate = Gate()
(x, y), (x_target, _) = floats(0), floats(1)
x, x_target = x.transpose(0, 2, 3, 1).copy(), x_target.transpose(0, 2, 3, 1).copy()
convolutions = [
    layer for width in (32, 48) for layer in (layers.Conv2D(width, 5, activation="relu"), layers.MaxPooling2D(2))
]
model = DANN(
    encoder=Sequential([Input((28, 28, 3)), *convolutions, layers.Flatten()]),
    task=Sequential([layers.Dense(100, "relu"), layers.Dense(100, "relu"), layers.Dense(10, "softmax")]),
    discriminator=Sequential([layers.Dense(100, "relu"), layers.Dense(1, "sigmoid")]),
    lambda_=STRENGTH,
    loss="categorical_crossentropy",
    optimizer=optimizers.SGD(LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
    verbose=0,
    random_state=0,
)
steps = LambdaCallback(on_train_batch_end=gate)
model.fit(x, np.eye(10, dtype=np.float32)[y], x_target, epochs=EPOCHS, batch_size=HALF, callbacks=[steps], verbose=0)
