#!/usr/bin/env python3
"""ONNX Runtime's CPU provider for bench-cpu: ort.py MODEL.onnx THREADS   (needs onnxruntime and numpy)

Runs the model once for every line that it reads, and writes how many seconds that took.
"""
import sys, time
import numpy as np, onnxruntime

path, threads = sys.argv[1], int(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
inputs = {i.name: np.load(f"{path.removesuffix('.onnx')}.{i.name}.npy") for i in session.get_inputs()}
for _ in sys.stdin:
    start = time.perf_counter()
    session.run(None, inputs)
    print(time.perf_counter() - start, flush=True)
