#!/usr/bin/env bash
# Proves that the fuzz targets find bugs: for each patch in planted/, which puts
# one plausible mistake into a copy of the code, the target that it names must
# fail. A target that never fails proves nothing.
#
#   test/fuzz/planted.sh [NAME...]
#
# PLANTED_TIME (10m) bounds the search for each bug, PARALLEL (1) is the number
# of workers. The corpus of earlier runs is not used.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
limit=${PLANTED_TIME:-10m} parallel=${PARALLEL:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ $# -gt 0 ]; then
	patches=("${@/#/test/fuzz/planted/}")
	patches=("${patches[@]/%/.patch}")
else
	patches=(test/fuzz/planted/*.patch)
fi

missed=0 n=0
for patch in "${patches[@]}"; do
	name=$(basename "$patch" .patch)
	package=$(sed -n 's/^package: //p' "$patch")
	target=$(sed -n 's/^target: //p' "$patch")
	n=$((n + 1))
	rm -rf "$work/tree" "$work/cache"
	mkdir -p "$work/tree" "$work/cache"
	git ls-files -z -co --exclude-standard -- . ':!bin' | while IFS= read -r -d '' f; do
		[ -e "$f" ] && printf '%s\0' "$f"
	done | tar -c --null -T - | tar -x -C "$work/tree"
	(cd "$work/tree" && patch -s -p1 <"$top/$patch")
	(cd "$work/tree/$package" && go test -c -vet=off -fuzz "^$target\$" -o "$work/fuzz.test" .)
	printf '%-24s %-20s %-18s ' "$name" "$package" "$target"
	start=$SECONDS
	if (cd "$work/tree/$package" && nice -n 19 "$work/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" \
		-test.fuzztime "$limit" -test.fuzzminimizetime 10x -test.parallel "$parallel" \
		-test.fuzzcachedir "$work/cache" >"$work/log" 2>&1); then
		echo "NOT FOUND in $((SECONDS - start)) s"
		missed=$((missed + 1))
		continue
	fi
	if ! grep -q -- "^--- FAIL: $target" "$work/log"; then
		echo "the run itself failed:"
		cat "$work/log"
		exit 1
	fi
	by=fuzzing
	grep -q 'failure while testing seed corpus' "$work/log" && by=seeds
	echo "found by $by in $((SECONDS - start)) s"
done
echo "$((n - missed)) of $n planted bugs found"
[ "$missed" -eq 0 ]
