#!/usr/bin/env python3
"""Times ONNX Runtime's CPU provider: ort.py DIR THREADS MODEL ...   (needs onnxruntime and numpy)

Prints the same lines as bench-cpu, for the same models and inputs.
"""
import json, sys, time
import numpy as np, onnxruntime

folder, threads = sys.argv[1], int(sys.argv[2])
for name in sys.argv[3:]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", options, providers=["CPUExecutionProvider"])
    inputs = {i.name: np.load(f"{folder}/{name}.{i.name}.npy") for i in session.get_inputs()}
    times, start = [], None
    while start is None or time.perf_counter() - start < 3:
        one = time.perf_counter()
        session.run(None, inputs)
        times.append(time.perf_counter() - one)
        start = start or time.perf_counter()
    print(json.dumps({"suite": "cpu-models", "name": f"{name} fp32 b1 t{threads}", "peer": "onnxruntime", "ms": round(float(np.median(times[1:] or times)) * 1e3, 3), "note": f"{onnxruntime.__version__}, {len(times)} runs"}), flush=True)
