#!/usr/bin/env python3
"""Square products beside cuBLAS, as gpu_peers.py prints its times: one JSON line a figure.

usage: [ROUNDS=1] gemm.py CARGO_WPK DIR [NAME ...]

Both sides take turns on the same random factors, so many rounds; errors are relative, in the 2-norm, against double precision, of what NumPy can
hold. The second factor is an input, or a weight of the model. DIR takes the models and their data.
"""
import os, sys
import numpy as np, onnx, torch
from onnx import TensorProto as T, helper as h
from sides import emit, graph_time, ours

# Extent, precision, ONNX type, and whether the second factor is a weight.
CASES = [(4096, "fp16", T.FLOAT16, False), (4096, "fp16", T.FLOAT16, True), (8192, "fp16", T.FLOAT16, True), (4096, "bf16", T.BFLOAT16, True),
         (8192, "bf16", T.BFLOAT16, True), (4096, "fp32", T.FLOAT, False), (4096, "tf32", T.FLOAT, True)]
TYPES = {T.FLOAT16: torch.float16, T.BFLOAT16: torch.bfloat16, T.FLOAT: torch.float32}


def model(path, n, dtype, weight):
    info = lambda name: h.make_tensor_value_info(name, dtype, [n, n])
    inputs, weights = [info("a"), info("b")], []
    if weight is not None:
        inputs, weights = inputs[:1], [h.make_tensor("b", dtype, [n, n], weight.cpu().view(torch.uint8).numpy().tobytes(), raw=True)]
    graph = h.make_graph([h.make_node("MatMul", ["a", "b"], ["y"])], "gemm", inputs, [info("y")], weights)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), path)


def main():
    tool, folder, *names = sys.argv[1:]
    generator = torch.Generator(device="cuda").manual_seed(0)
    for n, precision, kind, weight in CASES:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        name = f"gemm{n} {precision}" + (" weight" if weight else "")
        if names and name not in names:
            continue
        path, dtype = os.path.join(folder, name.replace(" ", "_") + ".onnx"), TYPES[kind]
        a, b = (torch.randn(n, n, generator=generator, device="cuda").to(dtype) for _ in range(2))
        model(path, n, kind, b if weight else None)
        exact, checked = a.double() @ b.double(), kind != T.BFLOAT16
        for key, value in (("a", a), ("b", b), ("out64", exact)) if checked else ():
            np.save(path.removesuffix(".onnx") + f".{key}.npy", value.cpu().numpy())
        error = ((a @ b).double() - exact).norm() / exact.norm()
        emit("gemm", name, "cublas", graph_time(lambda: a @ b), f"relative error {error:.2e}")
        for turn in range(int(os.environ.get("ROUNDS", "1"))):
            ours("gemm", name, tool, path, precision, checked=checked and turn == 0)
            emit("gemm", name, "cublas", graph_time(lambda: a @ b), "again")


main()
