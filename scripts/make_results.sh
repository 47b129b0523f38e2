#!/usr/bin/env bash
# The pages and pictures of docs/results, from nothing: about an hour and a half on two cores. Killed, the same command goes on where it was.
# First argument: the folder that holds dales_objects.npz, modelnet10.npz and infomr_shapedb.npz; without it only the pages that need none are made.
set -euo pipefail
if [ -n "${1:-}" ]; then # before hours of work, not after them
    for name in dales_objects modelnet10 infomr_shapedb; do
        [ -f "$1/$name.npz" ] || { echo "make_results.sh: there is no file $1/$name.npz. Give the folder that holds it: make results DATA=DIR" >&2; exit 2; }
    done
fi
given=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
wisetune=${WISETUNE:-.venv/bin/wisetune}
out=out/results pages=docs/results
mkdir -p "$pages"

say() { printf '\n== %s\n' "$*"; }
page() { # NAME TITLE RUN...: the page, and of a single run its picture
    local name=$1 title=$2
    shift 2
    "$wisetune" report "$@" --title "$title" --markdown "$pages/$name.md"
    if [ $# = 1 ]; then cp "$1/tradeoff.png" "$pages/$name.png"; fi
}

say "the demo, three seeds"
"$wisetune" demo --seeds 3 --out "$out/demo"
page demo "The demo over three seeds" "$out/demo"

say "where the trade-off begins: the demo with fewer labelled scans"
runs=()
for labelled in 5 20 50; do
    "$wisetune" demo --labelled "$labelled" --seeds 3 --out "$out/labelled-$labelled"
    runs+=("$out/labelled-$labelled")
done
page labelled "Where the trade-off begins" "${runs[@]}" "$out/demo"

[ -n "$given" ] || { say "no research data given: the pages on real scans stay as they are"; exit 0; }
data=$out/data # so that the pages name no folder of this machine
ln -sfn "$given" "$data"

real() { # NAME TITLE FORMATS... -- OPTIONS OF RUN...: an archive written out as a folder of files, and the main job on that folder
    local name=$1 title=$2 formats=()
    shift 2
    while [ "$1" != -- ]; do formats+=(--format "$1"); shift; done
    shift
    say "$title"
    [ -d "$out/$name" ] || "$wisetune" data export "npz:$data/$name.npz" "${formats[@]}" --out "$out/$name"
    "$wisetune" data check "$out/$name"
    "$wisetune" run wise-ft-lp --from point-mae-mini "$@" --seeds 3 --out "$out/$name-run" \
        --probe "npz:$data/infomr_shapedb.npz,up=y" --probe-c 0.01 --corruption items=100
    page "$name" "$title" "$out/$name-run"
}

real dales_objects "Aerial LiDAR: DALES objects as .ply, .xyz and .pcd files" ply xyz pcd -- \
    --on "folder:$out/dales_objects" --fit epochs=10,lr=0.001,drop-path=0.1
real modelnet10 "ModelNet10 as .off, .npy and .ply files, 40 labelled a class" off npy ply -- \
    --on "folder:$out/modelnet10,labelled=40" --fit epochs=10,lr=0.001,drop-path=0.1
