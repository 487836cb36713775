#!/usr/bin/env python3
"""Writes models/resnet.onnx: a ResNet-18 with random weights and a symbolic batch dimension.

usage: export.py       (needs torch, torchvision and onnx; downloads nothing)
"""
import pathlib
import torch, torchvision

here = pathlib.Path(__file__).parent
torch.manual_seed(0)
model = torchvision.models.resnet18(weights=None)
model.train()
with torch.no_grad():
    model(torch.randn(8, 3, 224, 224))  # batch norm statistics
(here / "models").mkdir(exist_ok=True)
torch.onnx.export(model.eval(), (torch.randn(1, 3, 224, 224),), here / "models/resnet.onnx", dynamo=False, opset_version=17,
                  input_names=["image"], output_names=["scores"], dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}})
