#!/usr/bin/env python3
"""Square products beside cuBLAS, as gpu_peers.py prints its times: one JSON line a figure.

usage: gemm.py CARGO_WPK DIR

Both sides take turns on the same random factors; errors are relative, in the 2-norm, against double precision. DIR takes the models and
their data.
"""
import json, os, re, subprocess, sys
import numpy as np, onnx, torch
from onnx import TensorProto as T, helper as h

N = 4096


def model(path, dtype):
    info = lambda name: h.make_tensor_value_info(name, dtype, [N, N])
    graph = h.make_graph([h.make_node("MatMul", ["a", "b"], ["y"])], "gemm", [info("a"), info("b")], [info("y")])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), path)


def graph_time(fn, inner=10, reps=20):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        fn()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(inner):
            fn()
    times = []
    for _ in range(reps):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(), graph.replay(), end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / inner)
    return sorted(times)[reps // 2]


def emit(name, peer, ms, note):
    print(json.dumps(dict(suite="gemm", name=name, peer=peer, ms=ms, note=note)), flush=True)


def main():
    tool, folder = sys.argv[1:]
    torch.backends.cuda.matmul.allow_tf32 = False
    generator = torch.Generator(device="cuda").manual_seed(0)
    for precision, kind, dtype in (("fp16", T.FLOAT16, torch.float16), ("fp32", T.FLOAT, torch.float32)):
        name, path = f"gemm{N} {precision}", os.path.join(folder, f"gemm_{precision}.onnx")
        model(path, kind)
        a, b = (torch.randn(N, N, generator=generator, device="cuda").to(dtype) for _ in range(2))
        exact = a.double() @ b.double()
        for key, value in (("a", a), ("b", b), ("out64", exact)):
            np.save(path.removesuffix(".onnx") + f".{key}.npy", value.cpu().numpy())
        error = ((a @ b).double() - exact).norm() / exact.norm()
        emit(name, "cublas", graph_time(lambda: a @ b), f"relative error {error:.2e}")
        command = [tool, "wpk", "bench", "--json", "--seconds", "0.1", "--check", "3", path, "--gpu", "sm_90a", "--device", "0", "--precision", precision]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            emit(name, "wpk-heuristic", None, done.stderr.strip()[-200:])
            continue
        found = json.loads(done.stdout)
        emit(name, "wpk-heuristic", found["replays"]["median_ms"], f"relative error {found['outputs'][0]['error']:.2e}")
        emit(name, "cublas", graph_time(lambda: a @ b), "again")


main()
