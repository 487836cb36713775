#!/usr/bin/env bash
# All engines on one machine, model by model: run.sh DIR > results.jsonl
# DIR holds the models of export.py; PYTHON names an interpreter with onnxruntime.
set -euo pipefail
cd "$(dirname "$0")"
cargo build --release --quiet
bin=${CARGO_TARGET_DIR:-target}/release/bench-cpu
cpu=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)
printf '{"command": "bench/cpu/run.sh", "date": "%s", "device": "%s, %s cores", "commit": "%s"}\n' "$(date -u +%F)" "$cpu" "$(nproc)" "$(git rev-parse --short HEAD)"
for threads in 1 2; do
    for model in resnet18 resnet50 mobilenet_v2 vit_b_16 minilm6 bert_base; do
        "$bin" "$1" $threads $model
        "${PYTHON:-python3}" ort.py "$1" $threads $model
    done
done
