#!/usr/bin/env python3
"""Trains the digits model and writes models/digits.onnx and images/*.png.

usage: train.py        (needs torch, onnx, scikit-learn and pillow; downloads nothing)

The data are scikit-learn's 1,797 scans of handwritten digits, 8x8 pixels in 17 shades. 360 of them are never trained on;
40 of those are written as PNG, named by their number and their digit.
"""
import pathlib
import numpy as np, torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

here = pathlib.Path(__file__).parent
torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
test, train = order[:360], order[360:]

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4, 10),
)
optimizer = torch.optim.Adam(model.parameters(), 2e-3, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
for epoch in range(40):
    model.train()
    for batch in train[torch.randperm(len(train))].split(64):
        shift = torch.randint(-1, 2, (2,)).tolist()
        loss = nn.functional.cross_entropy(model(torch.roll(images[batch], shift, (2, 3))), labels[batch])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    schedule.step()
model.eval()
with torch.no_grad():
    right = (model(images[test]).argmax(1) == labels[test]).float().mean()
print(f"accuracy on {len(test)} images not trained on: {right:.4f}")

(here / "models").mkdir(exist_ok=True)
torch.onnx.export(model, (images[:1],), here / "models/digits.onnx", dynamo=False, opset_version=17,
                  input_names=["image"], output_names=["scores"], dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}})
(here / "images").mkdir(exist_ok=True)
for i in test[:40].tolist():
    pixels = np.round(digits.images[i] / 16 * 255).astype(np.uint8)
    Image.fromarray(pixels).save(here / f"images/{i:04}-{digits.target[i]}.png")
