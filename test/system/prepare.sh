#!/usr/bin/env bash
# Installs what the system tests want and checks that it is there. Fails where
# something is missing: a test that is skipped proves nothing.
set -euo pipefail
fail() {
	echo "test-system: $*" >&2
	exit 1
}
[ "$(id -u)" = 0 ] || fail "must run as root: it installs packages and starts containers"
missing=()
command -v kcat >/dev/null || missing+=(kcat)
command -v etcdctl >/dev/null || missing+=(etcd-client)
command -v strace >/dev/null || missing+=(strace)
command -v ip >/dev/null || missing+=(iproute2)
command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
command -v fsfreeze >/dev/null || missing+=(util-linux)
command -v chromium-headless-shell >/dev/null || missing+=(chromium-headless-shell)
command -v rpm >/dev/null || missing+=(rpm)
command -v docker-compose >/dev/null || missing+=(docker-compose)
command -v docker >/dev/null || missing+=(docker.io)
for package in systemd dbus procps python3-confluent-kafka python3-kafka python3-lz4 python3-snappy python3-zstandard rsyslog rsyslog-kafka; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	command -v apt-get >/dev/null || fail "missing ${missing[*]}, and there is no apt-get to install them with"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
		fail "could not install ${missing[*]}"
fi
if ! command -v promtool >/dev/null || ! command -v prometheus >/dev/null; then
	command -v apt-get >/dev/null || fail "missing prometheus, and there is no apt-get to install it with"
	# The package starts a Prometheus; the tests start their own.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
	fi
	[ ${#missing[@]} -gt 0 ] || apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null ||
		fail "could not install prometheus"
	systemctl disable prometheus >/dev/null 2>&1 || true
fi
docker info >/dev/null 2>&1 || fail "the Docker daemon does not answer: start it"
