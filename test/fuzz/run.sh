#!/usr/bin/env bash
# Runs each fuzz target for FUZZTIME (30s) and says how long all together ran,
# in wall-clock and in worker hours, as docs/reliability.md adds them up.
#
#   test/fuzz/run.sh [REGEXP OF TARGETS]
#
# PARALLEL is the number of workers; default: one for each processor.
set -euo pipefail
cd "$(dirname "$0")/../.."
pattern=${1:-.} parallel=${PARALLEL:-$(nproc)} fuzztime=${FUZZTIME:-30s}
mapfile -t all < <(grep -rHoE '^func Fuzz[A-Za-z0-9]+' --include='*_test.go' internal pkg cmd | sort |
	sed 's|^\(.*\)/[^/]*:func |\1 |' | grep -E -- "$pattern")
begin=$SECONDS done=0 failed=() execs=0
for line in "${all[@]}"; do
	read -r package target <<<"$line"
	done=$((done + 1))
	echo "== $done of ${#all[@]}: $package $target, $((SECONDS - begin)) s so far"
	log=$(mktemp)
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" -fuzzminimizetime 10s -parallel "$parallel" "./$package" 2>&1 |
		tee "$log" || failed+=("$package $target")
	last=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -1)
	execs=$((execs + ${last:-0}))
	rm -f "$log"
done
took=$((SECONDS - begin))
awk -v s="$took" -v p="$parallel" -v n="$done" -v e="$execs" \
	'BEGIN { printf "%d targets, %d runs, %.2f hours of wall clock, %.2f worker hours\n", n, e, s/3600, s*p/3600 }'
if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
