#!/usr/bin/env bash
# Proves that `raftsman torture` finds bugs: for each patch in planted/, which puts one
# plausible mistake into a copy of the code, nodes that are processes of the patched
# binary are tortured by the unpatched one, with other seeds until it finds a violation.
#
#   test/torture/planted.sh [NAME...]
#
# PLANTED_TIME (600 seconds) bounds the search for each bug, BINARY (bin/raftsman) is the
# torturer. Histories of what was found stay in KEEP, if it is set.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
limit=${PLANTED_TIME:-600} binary=$(realpath "${BINARY:-bin/raftsman}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ $# -gt 0 ]; then
	patches=("${@/#/test/torture/planted/}")
	patches=("${patches[@]/%/.patch}")
else
	patches=(test/torture/planted/*.patch)
fi

missed=0 n=0
for patch in "${patches[@]}"; do
	name=$(basename "$patch" .patch)
	n=$((n + 1))
	rm -rf "$work/tree"
	mkdir -p "$work/tree"
	git ls-files -z -co --exclude-standard -- . ':!bin' | while IFS= read -r -d '' f; do
		[ -e "$f" ] && printf '%s\0' "$f"
	done | tar -c --null -T - | tar -x -C "$work/tree"
	(cd "$work/tree" && patch -s -p1 <"$top/$patch" && CGO_ENABLED=0 go build -buildvcs=false -o "$work/patched" ./cmd/raftsman)
	start=$SECONDS seed=0 found=
	while [ -z "$found" ] && [ $((SECONDS - start)) -lt "$limit" ]; do
		seed=$((seed + 1))
		rm -rf "$work/run"
		code=0
		"$binary" torture --processes --program "$work/patched" --seed "$seed" --duration 45s --recovery 60s \
			--fail-fast --quiet --dir "$work/run" -o json >"$work/out" 2>"$work/err" || code=$?
		case $code in
		0) ;;
		1) found=$(sed -n 's/^      "kind": "\(.*\)",$/\1/p' "$work/out" | sort | uniq -c | awk '{printf "%s %s, ", $1, $2}') ;;
		*)
			echo "the run itself failed:"
			cat "$work/err"
			exit 1
			;;
		esac
	done
	printf '%-24s ' "$name"
	if [ -z "$found" ]; then
		echo "NOT FOUND in $((SECONDS - start)) s, $seed seeds"
		missed=$((missed + 1))
		continue
	fi
	echo "found in $((SECONDS - start)) s with seed $seed: ${found%, }"
	if [ -n "${KEEP:-}" ]; then
		mkdir -p "$KEEP/$name"
		cp "$work"/run/history.* "$work/out" "$KEEP/$name/"
	fi
done
echo "$((n - missed)) of $n planted bugs found"
[ "$missed" -eq 0 ]
