#!/usr/bin/env bash
# Runs a command, usually `go test -v`, and repeats at the end what the tests
# that failed have said: in a long log they are hard to find.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
if [ "$code" != 0 ]; then
	printf '\n=== failed: %s\n' "$*"
	awk '
		/^=== (RUN|CONT|NAME) +/ {name = $3; sub("/.*", "", name)}
		/_test\.go:[0-9]+: / && name != "" {said[name, n[name]++] = substr($0, 1, 400)}
		/^(--- FAIL|FAIL|panic:|WARNING: DATA RACE)/ {
			print substr($0, 1, 400)
			if ($2 == "FAIL:") {for (i = (n[$3] > 30 ? n[$3] - 30 : 0); i < n[$3]; i++) print said[$3, i]}
		}' "$log"
fi
exit "$code"
