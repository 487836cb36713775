#!/usr/bin/env bash
# All engines on one machine, model by model: run.sh DIR > results.jsonl
# DIR holds the models of export.py, for one item and, where BATCH=8 made them, for eight, and where tests/models/quantized.py did, quantized ones; PYTHON names an interpreter with onnxruntime.
set -euo pipefail
cd "$(dirname "$0")"
cargo build --release --quiet
bin=${CARGO_TARGET_DIR:-target}/release/bench-cpu
cpu=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)
printf '{"command": "bench/cpu/run.sh", "date": "%s", "device": "%s, %s cores", "commit": "%s"}\n' "$(date -u +%F)" "$cpu" "$(nproc)" "$(git rev-parse --short HEAD)"
for threads in 1 2; do
    for model in resnet18 resnet50 mobilenet_v2 vit_b_16 minilm6 bert_base; do
        for name in "$model" "${model}_b8" "${model}_QInt8" "${model}_QUInt8"; do
            if [ -e "$1/$name.onnx" ]; then "$bin" "$1" "$threads" "$name"; fi
        done
    done
done
