#!/bin/bash
# What only a GPU can show, on a machine with one NVIDIA GPU and no network:
#
#   bench/gpu/run.sh [--cpu] [--out FOLDER] [CHECK ...]      # --list names the checks
#
# --cpu runs the same at toy size. See docs/benchmarks-gpu.md.
cd "$(dirname "$0")/../.." || exit 1
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH=$PWD/bench/gpu/shim:$PWD${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1
export VLLM_USE_DEEP_GEMM=0 VLLM_DEEP_GEMM_WARMUP=skip VLLM_USE_FLASHINFER_SAMPLER=${VLLM_USE_FLASHINFER_SAMPLER:-0}
exec "$PYTHON" -m bench.gpu.run "$@"
