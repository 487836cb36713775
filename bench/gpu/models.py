#!/usr/bin/env python3
"""Our times of the benchmark models on a GPU, as gpu_peers.py prints those of its peers: one JSON line a figure.

usage: [PREC="fp32 fp16"] [BATCH="1 32"] [KEPT=only] [RECORDS=FOLDER] models.py CARGO_WPK DIR [NAME ...]

DIR holds the models of export.py for both batches. Where a precision costs a model more accuracy than BARS allow, KEEP names the nodes
that stay in single precision, as `cargo wpk keep` found them; peer `wpk-nothing-kept` is the same without them, unless KEPT is only. Peer `wpk` has what
`cargo wpk tune` found when it ran in RECORDS. Times are medians of replays of the whole plan, copies excluded.
"""
import json, os, re, subprocess, sys

BARS = {"fp32": 1e-5, "tf32": 2e-3, "fp16": 5e-3, "bf16": 3e-2}
STEM = ["/conv1/*", "/relu/*", "/maxpool/*", "/layer1/*"]
L2 = "/layer2/layer2."
EARLY = [f"/features/features.{i}/*" for i in range(3)]
KEEP = {
    ("resnet50", "fp16"): [*STEM, L2 + "0/conv1/Conv"],
    ("resnet50", "bf16"): [*STEM, *[f"{L2}0/{x}/*" for x in ("conv1", "relu", "conv2", "relu_1")], L2 + "0/conv3/Conv"],
    ("resnet50", "tf32"): [*STEM, L2 + "0/*", L2 + "1/*", *[f"{L2}2/{x}/*" for x in ("conv1", "relu", "conv2", "relu_1")], L2 + "2/conv3/Conv"],
    ("mobilenet_v2", "fp16"): [*EARLY, "/features/features.3/conv/conv.0/*", "/features/features.3/conv/conv.1/*", "/features/features.3/conv/conv.2/Conv"],
    ("mobilenet_v2", "bf16"): [*EARLY, "/features/features.3/*", "/features/features.4/conv/conv.0/*", "/features/features.4/conv/conv.1/conv.1.0/Conv"],
    ("mobilenet_v2", "tf32"): [*EARLY, *[f"/features/features.{i}/*" for i in (3, 4, 5)], "/features/features.6/conv/conv.0/*",
                               "/features/features.6/conv/conv.1/*", "/features/features.6/conv/conv.2/Conv", "/features/features.7/conv/conv.0/*"],
}
MODELS = ["resnet18", "resnet50", "mobilenet_v2", "vit_b_16", "minilm6", "bert_base"]


def figure(tool, folder, model, precision, batch, keep, records=None):
    path = os.path.join(os.path.abspath(folder), model + ("" if batch == 1 else f"_b{batch}") + ".onnx")
    command = [tool, "wpk", "bench", "--seconds", "0.1", "--check", "100", path, "--gpu", "sm_90a", "--device", "0", "--precision", precision]
    command += ["--keep-fp32", ",".join(keep)] if keep else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=records)
    found = lambda pattern: (re.search(pattern, done.stdout) or [None, None])[1]
    ms, error = found(r"replays: median ([\d.]+)"), found(r"relative error (\S+)")
    if done.returncode or not ms:
        note = done.stderr.strip()[-200:]
    else:
        bar = "" if float(error) <= BARS[precision] else f", over {BARS[precision]:.0e}"
        runs, host, load = found(r"(\d+) runs give"), found(r"takes ([\d.]+) us"), found(r"loaded in (\d+)")
        note = f"relative error {error} against float64{bar}; {runs} runs give the same bits; host {host} us; loaded in {load} ms"
        note += f"; {len(keep)} patterns kept in fp32" if keep else ""
    peer = "wpk" if records else "wpk-nothing-kept" if not keep and (model, precision) in KEEP else "wpk-heuristic"
    print(json.dumps(dict(suite="model", name=f"{model} {precision} b{batch}", peer=peer, ms=ms and float(ms), note=note)), flush=True)


def main():
    tool, folder, *names = sys.argv[1:]
    tool = os.path.abspath(tool)
    for model in names or MODELS:
        for batch in map(int, os.environ.get("BATCH", "1 32").split()):
            for precision in os.environ.get("PREC", "fp32 tf32 fp16 bf16").split():
                keep = KEEP.get((model, precision), [])
                figure(tool, folder, model, precision, batch, keep)
                if records := os.environ.get("RECORDS"):
                    figure(tool, folder, model, precision, batch, keep, records)
                if keep and os.environ.get("KEPT") != "only":
                    figure(tool, folder, model, precision, batch, [])


main()
