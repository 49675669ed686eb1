#!/bin/bash
# Packs what benches/gpu.py needs on a machine with CUDA but without cargo or network: `make gpu-bundle` calls this.
#
#   CARGO=cargo benches/bundle.sh FOLDER [LIBTORCH_LIB PATH...]      makes FOLDER and FOLDER.tar.gz; .ci/trim takes the PATHs out of the programs
set -euo pipefail
folder=${1:?folder}
shift
limit=$((60 * 1000 * 1000))

# The executable that cargo names in its messages.
built() {
    ${CARGO:-cargo} "$@" --message-format=json-render-diagnostics |
        python3 -c 'import json, sys
found = [m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")]
print(found[-1])'
}
binary=$(built build --release --bin pullback)
tests=$(built test --package pullback --release --no-run --test tests)
units=$(built test --package pullback --release --no-run --lib)

rm -rf "$folder" "$folder.tar.gz"
mkdir -p "$folder"
# The tests' files and the sources that a test compiles; the peers; a Makefile whose `make gpu` runs in place.
git ls-files -co --exclude-standard Makefile benches configs kernels tests | tar -cf - -T - | tar -xf - -C "$folder"
strip -o "$folder/pullback" "$binary"
strip -o "$folder/tests-executable" "$tests"
strip -o "$folder/units-executable" "$units"
if [ $# -gt 0 ]; then
    for program in pullback tests-executable units-executable; do
        "${PYTHON:-python3}" .ci/trim "$folder/$program" "$@"
        "${PYTHON:-python3}" .ci/trim --check "$folder/$program" "$@"
    done
fi
git describe --always --dirty --abbrev=12 > "$folder/COMMIT"
tar -czf "$folder.tar.gz" -C "$(dirname "$folder")" "$(basename "$folder")"

"$binary" --version
size=$(stat -c %s "$folder.tar.gz")
echo "$folder.tar.gz: $((size / 1000000)) MB, $(cat "$folder/COMMIT"); unpack it anywhere, then: make gpu ONLY=first, or python3 benches/gpu.py --only first"
if [ "$size" -ge "$limit" ]; then
    echo "$folder.tar.gz: $size bytes, beyond $limit" >&2
    exit 1
fi
