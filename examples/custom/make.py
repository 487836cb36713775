#!/usr/bin/env python3
"""Writes models/snake.onnx: two products with example.Snake between them, weights from a formula. Needs onnx and numpy."""
import os
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper

weight = lambda name, rows, columns: numpy_helper.from_array(
    np.fromfunction(lambda i, j: np.sin(1 + 3 * i + 7 * j) / 4, (rows, columns)).astype(np.float32), name)
info = lambda name, shape: h.make_tensor_value_info(name, T.FLOAT, shape)
nodes = [
    h.make_node("MatMul", ["x", "w"], ["h"], name="first"),
    h.make_node("Snake", ["h"], ["s"], name="snake", domain="example", a=1.5),
    h.make_node("MatMul", ["s", "v"], ["y"], name="second"),
]
graph = h.make_graph(nodes, "snake", [info("x", [8, 16])], [info("y", [8, 4]), info("h", [8, 32])], [weight("w", 16, 32), weight("v", 32, 4)])
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17), h.make_opsetid("example", 1)], ir_version=9)
onnx.save(model, os.path.join(os.path.dirname(os.path.abspath(__file__)), "models", "snake.onnx"))
