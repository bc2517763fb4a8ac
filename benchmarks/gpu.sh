#!/usr/bin/env bash
# Everything that wants a GPU, in one go inside 9 minutes: tests, compute-sanitizer, kernels, training steps.
#   benchmarks/gpu.sh                                  with a GPU; needs no network
#   benchmarks/gpu.sh --only kernels,mlp_step          these steps anew; the others stay in the report as they are
#   benchmarks/gpu.sh --device emulated --out DIR      rehearsal without a GPU: tiny, its times mean nothing
# With a GPU it wants what the extras cuda13, cli and test bring (CuPy, nvmath-python, pytest, ...), and as peers PyTorch
# with Triton, JAX with CUDA, and optax; what is missing is named.
# Writes <gpu>.json, <gpu>.md and what README.md shows of them (benchmarks/readme.py) into --out (benchmarks/results). A
# step that fails is named there and the rest goes on; the exit status is 1 then. The report is written anew after each
# step, so that a run that is cut short leaves what it had. PYTHON chooses the interpreter. The package runs from this
# checkout.
set -uo pipefail
cd "$(dirname "$0")/.."

device=cuda out=benchmarks/results only=
while [ $# -gt 0 ]; do
    case "$1" in
        --device) device=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        *) echo "gpu.sh: $1 is unknown; use --device cuda|emulated, --only STEP,STEP and --out DIR" >&2; exit 2 ;;
    esac
done
steps=(compile memcheck racecheck initcheck capture tests kernels widths mlp_step mlp_large)
for name in ${only//,/ }; do
    [[ " ${steps[*]} " == *" $name "* ]] && continue
    echo "gpu.sh: --only $name is no step; choose from ${steps[*]}" >&2
    exit 2
done
case "$device" in cuda | emulated) ;; *) echo "gpu.sh: --device $device is neither cuda nor emulated" >&2; exit 2 ;; esac
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export GPU_BACKPROP_REQUIRE_TOOLS=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# step NAME SECONDS COMMAND...: runs it within these seconds and those that the steps before it have left; its log, exit
# status and time are kept for the report. What is out of time is interrupted as by Ctrl-C, so that pytest and the
# benchmarks still write down what they have. Steps started with & run together; `together SECONDS` waits for them;
# `alone` is a step with a report behind it.
granted=0
step() {
    local name=$1 limit begun=$SECONDS status=0
    wanted "$name" || return 0
    granted=$((granted + $2))
    limit=$((granted > SECONDS ? granted - SECONDS : 1))
    shift 2
    printf '\n== %s\n' "$name"
    timeout -s INT -k 15 "$limit" "$@" >"$work/$name.log" 2>&1 || status=$?
    [ "$status" -eq 124 ] || [ "$status" -eq 137 ] && echo "stopped after its limit of $limit s" >>"$work/$name.log"
    tail -n 4 "$work/$name.log"
    printf '%s\t%s\t%s\t\n' "$name" "$status" $((SECONDS - begun)) >"$work/$name.row"
}

together() {
    wait
    granted=$((granted + $1))
    report >/dev/null
}

alone() {
    step "$@"
    report >/dev/null
}

report() {
    for name in "${steps[@]}"; do
        [ ! -e "$work/$name.row" ] || cat "$work/$name.row"
    done >"$work/steps.tsv"
    "$python" benchmarks/report.py "$work" --device "$device" --out "$out"
}

wanted() { [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]; }

skip() { # NAME SECONDS REASON
    wanted "$1" || return 0
    granted=$((granted + $2))
    printf '\n== %s: skipped: %s\n' "$1" "$3"
    printf '%s\tskipped\t0\t%s\n' "$1" "$3" >"$work/$1.row"
}

tests() { # NAME SECONDS [BEFORE...] -- PYTEST ARGUMENTS...
    local name=$1 limit=$2 before=()
    shift 2
    while [ "$1" != -- ]; do before+=("$1"); shift; done
    shift
    step "$name" "$limit" ${before[@]+"${before[@]}"} "$python" -m pytest -p no:cacheprovider \
        --continue-on-collection-errors --junitxml "$work/$name.xml" "$@"
}

parallel=() # pytest-xdist is a help where it is installed
"$python" -c "import xdist" 2>/dev/null && parallel=(-n 8 --dist loadgroup)
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -n 1)
agree=tests/kernels/test_devices_agree.py
cli='import sys; from gpu_backprop.cli import main; sys.exit(main())'
captures=(tests/core/test_capture.py tests/core/test_rewrites.py)

# sanitized TOOL SECONDS FLOATS FILES...: kernel tests that compare with NumPy, so that nothing but the GPU's kernels is
# compiled; arrays have memory of their own, whose ends the tool knows.
sanitized() {
    local tool=$1 limit=$2 floats=$3
    shift 3
    if [ -z "$sanitizer" ]; then
        skip "$tool" "$limit" "compute-sanitizer is not installed"
        return
    fi
    GPU_BACKPROP_TEST_NO_POOL=1 GPU_BACKPROP_TEST_FLOATS=$floats tests "$tool" "$limit" \
        "$sanitizer" --tool "$tool" --error-exitcode 9 -- -m gpu "$@"
}

if [ "$device" = cuda ]; then
    barriers=(tests/kernels/test_{reduction,neural,norms,losses,indexing,bias,optimizer}.py)
    kernel_tests=("${barriers[@]}" tests/kernels/test_{elementwise,chain,random}.py)
    step compile 45 "$python" benchmarks/compile_all.py
    # what is not timed runs together
    sanitized memcheck 110 float,__half "${kernel_tests[@]}" &
    sanitized racecheck 110 float "${barriers[@]}" &
    sanitized initcheck 110 float "${kernel_tests[@]}" &
    tests capture 110 -- -m gpu "${captures[@]}" &
    tests tests 110 -- ${parallel[@]+"${parallel[@]}"} -m gpu "${captures[@]/#/--ignore=}" tests/kernels tests/gpu tests &
    together 110
    alone kernels 60 "$python" benchmarks/kernels.py --out "$work"
    alone widths 35 "$python" -c "$cli" bench --devices cpu,cuda --seconds 6 --repeats 9 --out "$work/widths_cuda.svg"
    # last, for they gain most from the time that others leave: compilers take long
    alone mlp_step 110 "$python" benchmarks/mlp_step.py --device cuda --networks 784-1024-1024-10@256 \
        --precisions tf32,bfloat16 --against "gpu_backprop eager,torch,torch.compile,torch CUDA graph,jax" \
        --mode reduce-overhead --patience 40 --rounds 9 --seconds 0.1 --name mlp_step --out "$work"
    alone mlp_large 150 "$python" benchmarks/mlp_step.py --device cuda --networks 8192x8@8192 \
        --precisions bfloat16 --optimizer adamw --against products,torch,torch.compile,jax --mode max-autotune \
        --patience 120 --rounds 7 --seconds 0.2 --name mlp_large --out "$work"
else
    step compile 120 "$python" benchmarks/compile_all.py --arch none --only neural.cu
    tests capture 120 -- "${captures[0]}" -k "emulated and (signature or gradients_there)"
    tests tests 120 -- "$agree" -k "neural and float and not bfloat16"
    for tool in memcheck racecheck initcheck; do skip "$tool" 0 "there is no GPU in a rehearsal"; done
    alone kernels 300 "$python" benchmarks/kernels.py --device emulated --out "$work"
    alone widths 60 "$python" -c "$cli" bench --devices cpu,emulated --widths 8-32 --batch-size 8 --repeats 1 \
        --out "$work/widths_emulated.svg"
    alone mlp_step 120 "$python" benchmarks/mlp_step.py --device emulated --networks 16-32-32-10@8 \
        --precisions tf32,bfloat16 --against "gpu_backprop eager,torch,torch.compile,jax" \
        --patience 60 --rounds 2 --seconds 0.02 --name mlp_step --out "$work"
    alone mlp_large 120 "$python" benchmarks/mlp_step.py --device emulated --networks 16x8@16 \
        --precisions bfloat16 --optimizer adamw --against products,torch,torch.compile,jax \
        --patience 60 --rounds 2 --seconds 0.02 --name mlp_large --out "$work"
fi
report
