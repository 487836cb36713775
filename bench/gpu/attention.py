#!/usr/bin/env python3
"""Attention beside every backend of PyTorch's scaled_dot_product_attention, as gpu_peers.py prints its times: one JSON line a figure.

usage: attention.py CARGO_WPK DIR [LENGTH ...]

Twelve heads of 64 in half precision, batches 1 and 8, queries as many as keys. Both sides take turns on the same random factors, ten calls a graph, each
with the result before as its queries: times are of one. Errors are relative, in the 2-norm, against double precision. DIR takes the models and their data.
"""
import os, sys
import numpy as np, onnx, torch
from onnx import TensorProto as T, helper as h
from sides import emit, graph_time, ours
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

HEADS, WIDTH, CALLS = 12, 64, 10
LENGTHS = [128, 256, 512, 1024, 2048, 4096]
BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]


def model(path, shape):
    info = lambda name: h.make_tensor_value_info(name, T.FLOAT16, shape)
    scale = h.make_tensor("scale", T.FLOAT16, [], np.float16(WIDTH**-0.5).tobytes(), raw=True)
    nodes, queries = [h.make_node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2])], "q"
    for i in range(CALLS):
        names = [f"{x}{i}" for x in ("products", "scores", "weights", "y")]
        nodes += [h.make_node("MatMul", [queries, "t"], names[:1]), h.make_node("Mul", [names[0], "scale"], names[1:2]),
                  h.make_node("Softmax", names[1:2], names[2:3], axis=-1), h.make_node("MatMul", [names[2], "v"], names[3:])]
        queries = names[3]
    graph = h.make_graph(nodes, "attention", [info(x) for x in "qkv"], [info(queries)], [scale])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), path)


def chain(q, k, v):
    for _ in range(CALLS):
        q = sdpa(q, k, v)
    return q


def best(factors):
    """The fastest backend's time in ms, and its name."""
    times = {}
    for backend in BACKENDS:
        try:
            with sdpa_kernel([backend]):
                times[backend.name] = graph_time(lambda: chain(*factors), inner=1, reps=50) / CALLS
        except RuntimeError:
            continue
    return min((ms, name) for name, ms in times.items())


def main():
    tool, folder, *lengths = sys.argv[1:]
    generator = torch.Generator(device="cuda").manual_seed(0)
    for batch in (1, 8):
        for length in map(int, lengths or LENGTHS):
            name, shape = f"attention {batch}x{HEADS}x{length}x{WIDTH} fp16", (batch, HEADS, length, WIDTH)
            path = os.path.join(folder, f"attention_{batch}_{length}.onnx")
            factors = [torch.randn(shape, generator=generator, device="cuda").half() for _ in range(3)]
            model(path, shape)
            exact = chain(*(x.double() for x in factors))
            for key, value in (*zip("qkv", factors), ("out64", exact)):
                np.save(path.removesuffix(".onnx") + f".{key}.npy", value.cpu().numpy())
            for note in ("", "; again"):
                ms, backend = best(factors)
                emit("attention", name, "sdpa", ms, backend + note)
                if not note:
                    ours("attention", name, tool, path, "fp16", CALLS)


main()
