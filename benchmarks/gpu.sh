#!/usr/bin/env bash
# What this library does on one GPU, measured in at most twelve minutes:
#
#     benchmarks/gpu.sh runs/bench/gpu           # JSON files go there, each beside its log
#     DRY=1 benchmarks/gpu.sh runs/bench/dry     # the same lines at small sizes on the CPU
#
# Every part has a time limit, so that one that is stuck leaves time to the others; what it measured
# before is kept. The exit status is that of the whole: 0 if every part ended well and left JSON.
# PYTHON names the interpreter, BUDGET the seconds for all; SLOWER multiplies it and every limit.
set -u -o pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: benchmarks/gpu.sh DIRECTORY}
python=${PYTHON:-python}
slower=${SLOWER:-$([ -n "${DRY:-}" ] && echo 4 || echo 1)}
budget=$((slower * ${BUDGET:-720}))

steps=(--images=published --rounds=20)
akorn=(--config.steps_per_call=10)
input=(--steps=100 --config.data.max_records=4096 "--config.data.train=(0,4096)")
evaluation=(--images=8 --rounds=3)
training=(--scenes=4096 --interval=200 --config.steps_per_call=10)
slots=(clevr6_slot_attention.py clevr6_slate.py)
mixtures=(clevr_monet.py clevr_genesis_v2.py clevr_iodine.py clevr_efficient_morl.py)
glimpses=(clevr_space.py clevr_spair.py clevr_gnm.py)
sprites=(clevr_dti_sprites.py clevr_marionette.py)
features=(movi_c_dinosaur.py cifar10_agglomerator.py)
pairs=()
if [ -n "${DRY:-}" ]; then
  export JAX_PLATFORMS=cpu
  steps=(--images=2 --rounds=1)
  akorn=(--images=4 --config.steps_per_call=2) # it compares scenes, of two views each
  input=(--steps=2 --rounds=1 --config.batch_size=8 --config.data.max_records=64
    "--config.data.train=(0,64)")
  evaluation=(--images=1 --rounds=1 --channels=32)
  training=(--images=8 --scenes=64 --interval=2 --rounds=1 --config.steps_per_call=2)
  slots=(tetrominoes_slot_attention.py shapes3d_slate.py)
  mixtures=(dsprites_monet.py tetrominoes_genesis_v2.py tetrominoes_iodine.py
    tetrominoes_efficient_morl.py)
  glimpses=(dsprites_space.py tetrominoes_spair.py dsprites_gnm.py)
  sprites=(tetrominoes_dti_sprites.py tetrominoes_marionette.py)
  features=(movi_c_dinosaur.py:small cifar10_agglomerator.py:small)
  pairs=(--images=4) # as above, of Agglomerator
fi

mkdir -p "$out"
failed=()

# part NAME SECONDS BENCHMARK OPTIONS...: measures into NAME.json, for at most so many seconds.
part() {
  local name=$1 limit=$((slower * $2)) benchmark=$3 left=$((budget - SECONDS)) status
  shift 3
  rm -f "$out/$name.json"
  if [ "$left" -le 0 ]; then
    failed+=("$name (no time left)")
    return
  fi
  timeout -k 5 "$((limit < left ? limit : left))" \
    "$python" -m "benchmarks.$benchmark" "$@" --output="$out/$name.json" 2>&1 | tee "$out/$name.log"
  status=${PIPESTATUS[0]}
  if [ "$status" -ne 0 ]; then
    failed+=("$name (exit status $status)")
  elif ! "$python" -m json.tool "$out/$name.json" > /dev/null; then
    failed+=("$name (no JSON)")
  fi
}

# recipes NAME SECONDS OPTION... -- RECIPE...: training steps.
recipes() {
  local name=$1 limit=$2 options=()
  shift 2
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  part "$name" "$limit" train_step "${steps[@]}" "${options[@]}" --recipes "${@/#/configs/}"
}

dynamics=(tetrominoes_akorn.py tetrominoes_akorn.py:conv tetrominoes_itrsa.py)
recipes akorn_float32 90 "${akorn[@]}" -- "${dynamics[@]}"
recipes akorn_bfloat16 90 "${akorn[@]}" --config.dtype=bfloat16 -- "${dynamics[@]}"
recipes slots 70 -- "${slots[@]}"
recipes mixtures 130 -- "${mixtures[@]}"
recipes glimpses 90 -- "${glimpses[@]}"
recipes sprites 70 -- "${sprites[@]}"
recipes features 60 "${pairs[@]}" -- "${features[@]}"
part input 30 input --config=configs/tetrominoes_akorn.py:procedural \
  --config.data_dir="$out/data" "${input[@]}"
part evaluation 50 evaluation --forward "${evaluation[@]}"
part throughput 40 throughput --config.dtype=bfloat16 --data_dir="$out/data" "${training[@]}" \
  --recipes configs/tetrominoes_akorn.py:procedural configs/tetrominoes_itrsa.py:procedural

if [ "${#failed[@]}" -gt 0 ]; then
  printf 'Not measured in full: %s\n' "${failed[@]}" >&2
  exit 1
fi
