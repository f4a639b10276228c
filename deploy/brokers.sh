#!/usr/bin/env bash
# Prints the Kafka addresses of the running workers, comma separated, as this
# host reaches them: those of the containers. Arguments go to docker-compose,
# such as -p PROJECT.
set -euo pipefail
cd "$(dirname "$0")/.."
compose=(docker-compose)
command -v docker-compose >/dev/null || compose=(docker compose)
ids=$("${compose[@]}" "$@" ps -q worker)
addresses=()
for id in $ids; do
	ip=$(docker inspect -f '{{if .State.Running}}{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}{{end}}' "$id")
	ip=${ip%% *}
	[ -z "$ip" ] || addresses+=("$ip:9092")
done
if [ ${#addresses[@]} -eq 0 ]; then
	echo "brokers.sh: no worker is running" >&2
	exit 1
fi
(IFS=, && echo "${addresses[*]}")
