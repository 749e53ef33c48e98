#!/usr/bin/env bash
# Runs the tests and the benchmarks on a machine with a CUDA GPU, in half an hour. Run it from the repository's root:
#     benchmarks/gpu_check.sh [FOLDER FOR THE RESULTS]
# A Python with DeepTune is taken from $PYTHON; without that variable a virtual environment is made and filled.
# Every part writes its own file, so that what ended early leaves what came before.
set -uo pipefail

out=${1:-gpu-check}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."

if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$out/venv" && PYTHON=$out/venv/bin/python
    "$PYTHON" -m pip install --quiet --editable '.[quickstart]' pytest pytest-timeout pytest-xdist \
        pytest-textual-snapshot >"$out/install.txt" 2>&1 || { echo "DeepTune could not be installed: $out/install.txt"; exit 1; }
fi
"$PYTHON" - >"$out/machine.txt" 2>&1 <<'PY' || { cat "$out/machine.txt"; echo "PyTorch sees no CUDA GPU"; exit 1; }
import torch

assert torch.cuda.is_available()
print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())
for number in range(torch.cuda.device_count()):
    print(number, torch.cuda.get_device_properties(number))
PY
nvidia-smi >>"$out/machine.txt" 2>&1 || true
cat "$out/machine.txt"

failed=0
part() { # part NAME MINUTES COMMAND...
    local name=$1 minutes=$2
    shift 2
    echo "== $name (at most $minutes minutes)"
    if timeout "${minutes}m" "$@" >"$out/$name.txt" 2>&1; then echo "   done"; else
        echo "   failed or out of time ($?)"
        failed=1
    fi
    tail -n 15 "$out/$name.txt"
}

export DEEPTUNE_TEST_DEVICE=cuda OMP_NUM_THREADS=2
# Kill and resume, faults, caches, tuning, verification, precision: what a GPU could do otherwise.
part tests 12 "$PYTHON" -m pytest -n 4 --dist loadfile -q \
    tests/faults/test_kill_and_resume.py tests/faults/training tests/integration/test_run.py \
    tests/integration/test_run_training.py tests/integration/test_gpu_runs.py tests/integration/test_tuning.py \
    tests/integration/feature_cache tests/integration/test_precision.py \
    tests/unit/test_loss_scaling.py tests/unit/test_out_of_memory.py tests/unit/test_same_model.py
unset OMP_NUM_THREADS
part steps 9 "$PYTHON" -m benchmarks --device cuda --only gpu-resnet50 gpu-vit gpu-bert gpu-gpt2 \
    gpu-resnet50-fp32 gpu-vit-fp32 gpu-bert-fp32 gpu-gpt2-fp32
part loops 8 "$PYTHON" -m benchmarks --device cuda --only partial-images unfreeze-images full-images embed-images
echo "results: $out"
exit $failed
