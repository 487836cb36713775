#!/usr/bin/env python3
"""Quantized models beside ONNX Runtime: one JSON line a model and type of activations.

usage: quantized.py CARGO_WPK DIR NAME ...      (needs onnx, onnxruntime, numpy, sympy)

DIR holds NAME.onnx and NAME.input.npy. ONNX Runtime's own tool quantizes (QDQ, a scale a channel); `layer` is the largest difference of any
quantized tensor within the model in steps of its quantization, where we compute it from what ONNX Runtime has before it (`layers` counts them); `steps` that of the result: ours from ONNX Runtime without its optimizations, and ONNX Runtime from itself with them, whose rounding differs too.
`ms`: medians at one and two threads, engines in turn, the better of two rounds.
"""
import json, os, re, subprocess, sys, time
import numpy as np, onnx, onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Samples(CalibrationDataReader):
    def __init__(self, name, x):
        rng = np.random.default_rng(0)
        self.rest = iter([{name: x}, *({name: rng.standard_normal(x.shape).astype(np.float32)} for _ in range(3))])

    def get_next(self):
        return next(self.rest, None)


def session(path, threads, optimized=True):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def theirs(path, threads, inputs):
    run = session(path, threads)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < 2:
        one = time.perf_counter()
        run.run(None, inputs)
        times.append(time.perf_counter() - one)
    return float(np.median(times[1:])) * 1e3


def ours(tool, path, threads):
    done = subprocess.run([tool, "wpk", "bench", path, "--threads", str(threads), "--seconds", "2"], capture_output=True, text=True, check=True)
    return float(re.search(r"median ([\d.]+) ms", done.stdout)[1])


def last_step(path):
    """The scale of the last quantization."""
    graph = onnx.load(path).graph
    made = {o: n for n in graph.node for o in n.output}
    node = made[graph.output[0].name]
    assert node.op_type == "DequantizeLinear", node.op_type
    scale = next(i for i in graph.initializer if i.name == node.input[1])
    return float(onnx.numpy_helper.to_array(scale).reshape(-1)[0])


def layers(tool, path, x):
    """Every quantized tensor computed by us from the quantized tensors before it: how many there are, and the largest difference from ONNX Runtime's."""
    model = onnx.load(path)
    graph, given = model.graph, model.graph.input[0].name
    made = {o: n for n in graph.node for o in n.output}
    constants = {i.name: i for i in graph.initializer}
    quantized = [n.output[0] for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in made]
    whole = onnx.ModelProto.FromString(model.SerializeToString())
    whole.graph.output.extend(onnx.ValueInfoProto(name=n) for n in [*quantized, *(n.output[0] for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == given)])
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    run = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = dict(zip([o.name for o in run.get_outputs()], run.run(None, {given: x})))
    info = lambda n, called: onnx.helper.make_tensor_value_info(called, onnx.helper.np_dtype_to_tensor_dtype(found[n].dtype), found[n].shape)
    worst, part = 0.0, path.removesuffix(".onnx") + ".part"
    for output in quantized:
        nodes, inputs, open_ = [], [], [output]
        while open_:
            name = open_.pop()
            if name in constants or name in inputs or any(name in n.output for n in nodes):
                continue
            if name in found and name != output:
                inputs.append(name)
                continue
            nodes.append(made[name])
            open_.extend(i for i in made[name].input if i)
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node if n in nodes]
        # A tensor's name becomes one of a file.
        short = {name: f"in{i}" for i, name in enumerate(inputs)}
        for n in nodes:
            n.input[:] = [short.get(i, i) for i in n.input]
        weights = [constants[i] for i in dict.fromkeys(i for n in nodes for i in n.input) if i in constants]
        made_part = onnx.helper.make_graph(nodes, "part", [info(i, short[i]) for i in inputs], [info(output, output)], weights)
        onnx.save(onnx.helper.make_model(made_part, opset_imports=model.opset_import, ir_version=model.ir_version), part + ".onnx")
        for i in inputs:
            np.save(f"{part}.{short[i]}.npy", found[i])
        np.save(part + ".out64.npy", found[output].astype(np.float64))
        done = subprocess.run([tool, "wpk", "verify", "--outputs", "--json", "--tolerance", "1e9", part + ".onnx"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        worst = max(worst, json.loads(done.stdout)["outputs"][0]["largest"])
        for file in os.listdir(os.path.dirname(part)):
            if file.startswith(os.path.basename(part)):
                os.remove(os.path.join(os.path.dirname(part), file))
    return dict(layers=len(quantized), layer=worst)


def main():
    tool, folder, *names = sys.argv[1:]
    for name in names:
        plain = os.path.join(folder, name + ".onnx")
        x = np.load(os.path.join(folder, name + ".input.npy"))
        for kind in ("QInt8", "QUInt8"):
            stem = os.path.join(folder, f"{name}_{kind}")
            quant_pre_process(plain, stem + ".pre.onnx")
            key = onnx.load(stem + ".pre.onnx").graph.input[0].name
            quantize_static(stem + ".pre.onnx", stem + ".onnx", Samples(key, x), quant_format=QuantFormat.QDQ, per_channel=True,
                            activation_type=getattr(QuantType, kind), weight_type=QuantType.QInt8)
            expected = session(stem + ".onnx", 1, optimized=False).run(None, {key: x})[0]
            np.save(f"{stem}.{key}.npy", x)
            np.save(stem + ".out64.npy", expected.astype(np.float64))
            done = subprocess.run([tool, "wpk", "verify", "--outputs", "--json", "--tolerance", "1", stem + ".onnx"], capture_output=True, text=True)
            found = json.loads(done.stdout)["outputs"][0]
            step = last_step(stem + ".onnx")
            optimized = session(stem + ".onnx", 1).run(None, {key: x})[0]
            row = dict(model=name, activations=kind, **layers(tool, stem + ".onnx", x), error=found["error"], steps=dict(wpk=found["largest"] / step, onnxruntime=float(np.abs(optimized - expected).max()) / step))
            for threads in (1, 2):
                rounds = [(ours(tool, stem + ".onnx", threads), theirs(stem + ".onnx", threads, {key: x}), ours(tool, plain, threads)) for _ in range(2)]
                row[f"ms{threads}"] = dict(zip(("wpk int8", "onnxruntime int8", "wpk fp32"), (min(r) for r in zip(*rounds))))
            print(json.dumps(row), flush=True)


main()
