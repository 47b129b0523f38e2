#!/usr/bin/env bash
# The pages of docs/results on ways to tune, from nothing: some hours on one core. Killed, the same command goes on where it was.
# First argument: the folder that holds the archives named below.
set -euo pipefail
sets="simscan_obj_only simscan_obj_bg simscan_pb_t50_rs modelnet10 dales_objects"
[ -n "${1:-}" ] || { echo "make_tunings_results.sh: no folder was given. Give the one that holds the data: make results-tunings DATA=DIR" >&2; exit 2; }
for name in $sets; do # before hours of work, not after them
    [ -f "$1/$name.npz" ] || { echo "make_tunings_results.sh: there is no file $1/$name.npz. Give the folder that holds it: make results-tunings DATA=DIR" >&2; exit 2; }
done
given=$(realpath "$1")
cd "$(dirname "$0")/.."
wisetune=${WISETUNE:-.venv/bin/wisetune} python=${PYTHON:-.venv/bin/python}
data=out/results/data pages=docs/results # so that the pages name no folder of this machine
head="epochs=100,batch=64,lr=0.003,augment=none,warmup=0"

say() { printf '\n== %s\n' "$*"; }
page() { # NAME TITLE RUN...: the page of several runs
    local name=$1 title=$2
    shift 2
    "$wisetune" report "$@" --title "$title" --markdown "$pages/$name.md"
}

say "all ways to tune on five sets, 20 labelled clouds a class, three seeds"
"$wisetune" --version # before the link is made
mkdir -p out/results "$pages"
ln -sfn "$given" "$data"
runs=()
for name in $sets; do
    "$wisetune" compare --on "npz:$data/$name.npz,labelled=20" --seeds 3 --fit epochs=15,lr=0.002 --head-fit "$head" --threads 1 \
        --out "out/compare/$name"
    runs+=("out/compare/$name")
done
page tunings "Ways to tune on five sets" "${runs[@]}"
"$python" -m benchmarks.published "$pages/tunings.md" "${runs[@]}"

say "few-shot: a few clouds of a few classes of ModelNet10, five folds"
runs=()
for ways in 5 10; do
    for shots in 10 20; do
        for fold in 0 1 2 3 4; do
            "$wisetune" compare --on "few-shot:on=[npz:$data/modelnet10.npz],ways=$ways,shots=$shots,fold=$fold" \
                --tunings all --seeds 1 --fit epochs=15,lr=0.002,batch=16 --head-fit "$head" --threads 1 \
                --out "out/few-shot/$ways-$shots-$fold"
            runs+=("out/few-shot/$ways-$shots-$fold")
        done
    done
done
page few-shot "Few-shot on ModelNet10's classes" "${runs[@]}"
"$python" -m benchmarks.published "$pages/few-shot.md" "${runs[@]}"

say "whether mixing pays for tunings that train few values"
runs=()
for tuning in full lora bitfit idpt dapt; do
    "$wisetune" run wise-ft-lp:alphas=0+0.2+0.4+0.6+0.8+1,baselines=false --from point-mae-mini --tuning "$tuning" \
        --on "npz:$data/simscan_obj_only.npz,labelled=20" --seeds 3 --fit epochs=15,lr=0.002 --head-fit "$head" --corruption none \
        --threads 1 --out "out/wise-tunings/$tuning"
    runs+=("out/wise-tunings/$tuning")
done
page wise-tunings "Mixing what few values changed" "${runs[@]}"
