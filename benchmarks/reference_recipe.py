"""The recipe that MedMNIST v2 published its ResNet-18 figures with, in plain PyTorch.

ResNet-18 whose first layer keeps every pixel, as for CIFAR; Adam at 1e-3, divided by
ten after 50 and 75 of 100 epochs; batches of 128; no augmentation; the epoch of the
best validation AUC is kept. Volumes get the same network with 3-D convolutions, labels
of shape (n, n_labels) a sigmoid each. (Yang et al., Scientific Data 10:41, 2023;
https://github.com/MedMNIST/experiments.)
"""

import copy
import time
from functools import partial

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

EPOCHS, BATCH, LR, DROPS = 100, 128, 1e-3, (50, 75)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, dims):
        super().__init__()
        conv, norm = CONV[dims], NORM[dims]
        self.main = nn.Sequential(
            conv(inputs, outputs, 3, stride, 1, bias=False),
            norm(outputs),
            nn.ReLU(),
            conv(outputs, outputs, 3, 1, 1, bias=False),
            norm(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            short = conv(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(short, norm(outputs))

    def forward(self, x):
        return torch.relu(self.main(x) + self.shortcut(x))


def resnet18(in_channels, n_classes, dims):
    layers = [CONV[dims](in_channels, 64, 3, 1, 1, bias=False), NORM[dims](64)]
    layers.append(nn.ReLU())
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inputs, outputs, stride, dims)]
        layers += [Block(outputs, outputs, 1, dims)]
        inputs = outputs
    pool = nn.AdaptiveAvgPool2d(1) if dims == 2 else nn.AdaptiveAvgPool3d(1)
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(512, n_classes))


def to_tensor(X, dims):
    """uint8 images to (n, C, *spatial) from -1 to 1."""
    x = torch.from_numpy(np.asarray(X)).float() / 127.5 - 1
    return x[:, None] if x.ndim == dims + 1 else x.movedim(-1, 1)


def auc_of(y, proba):
    """AUC as MedMNIST's evaluator defines it."""
    if y.ndim == 2:
        return roc_auc_score(y, proba)  # the mean over labels
    if proba.shape[1] == 2:
        return roc_auc_score(y, proba[:, 1])
    classes = range(proba.shape[1])
    return np.mean([roc_auc_score(y == k, proba[:, k]) for k in classes])


class ReferenceRecipe:
    """`fit` on training and validation images, `predict_proba` as scikit-learn's.

    bfloat16 : whether to train in mixed precision, for processors that are faster at it
    """

    def __init__(self, seed, dims, bfloat16=False):
        self.seed, self.dims, self.bfloat16 = seed, dims, bfloat16

    def start(self, X, y):
        torch.manual_seed(self.seed)
        self.several = y.ndim == 2  # labels an image
        n_outputs = y.shape[1] if self.several else int(y.max()) + 1
        x, y = to_tensor(X, self.dims), torch.from_numpy(y.astype(np.int64))
        # Channels last: the same numbers, and faster on a CPU.
        memory = torch.channels_last if self.dims == 2 else torch.channels_last_3d
        net = resnet18(x.shape[1], n_outputs, self.dims)
        self.net = net.to(DEVICE, memory_format=memory)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LR)
        return x, y

    def step(self, x, y):
        self.net.train()
        self.optimizer.zero_grad()
        x, y = x.to(DEVICE), y.to(DEVICE)
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=self.bfloat16):
            logits = self.net(x).float()
            if self.several:
                loss = binary_cross_entropy_with_logits(logits, y.float())
            else:
                loss = cross_entropy(logits, y)
        loss.backward()
        self.optimizer.step()

    def fit(self, X, y, X_valid, y_valid):
        x, y = self.start(X, y)
        x_valid = to_tensor(X_valid, self.dims)
        schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, DROPS, 0.1)
        best = -1.0
        for _ in range(EPOCHS):
            for part in torch.randperm(len(x)).split(BATCH):
                self.step(x[part], y[part])
            schedule.step()
            auc = auc_of(y_valid, self.probabilities(x_valid))
            if auc > best:
                best, kept = auc, copy.deepcopy(self.net.state_dict())
        self.net.load_state_dict(kept)
        return self

    def predict_proba(self, X):
        return self.probabilities(to_tensor(X, self.dims))

    def probabilities(self, x):
        self.net.eval()
        squash = torch.sigmoid if self.several else partial(torch.softmax, dim=1)
        with torch.inference_mode():
            parts = [squash(self.net(part.to(DEVICE))) for part in x.split(BATCH)]
            return torch.cat(parts).cpu().numpy()

    def extrapolated_cpu(self, X, y, steps=20):
        """CPU-seconds of a whole fit, from a few of its steps.

        By images, as the last batch of an epoch is not full; without validation.
        """
        few = slice(0, BATCH * (steps + 1))
        x, target = self.start(X[few], y)
        parts = [part % len(x) for part in torch.arange(BATCH * steps).split(BATCH)]
        self.step(x[parts[0]], target[parts[0]])
        start = time.process_time()
        for part in parts:
            self.step(x[part], target[part])
        cpu = (time.process_time() - start) / steps
        return cpu * EPOCHS * len(X) / BATCH
