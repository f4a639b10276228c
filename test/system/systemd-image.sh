#!/usr/bin/env bash
# Makes the image raftsman-test-systemd:bookworm, a Debian that systemd runs in, if it
# is not there.
set -euo pipefail
image=raftsman-test-systemd:bookworm
! docker image inspect "$image" >/dev/null 2>&1 || exit 0
mmdebstrap --quiet --mode=root --variant=essential --include=systemd-sysv,dbus,procps \
	--aptopt='Acquire::Languages "none"' bookworm - |
	docker import --change 'CMD ["/lib/systemd/systemd"]' --change 'STOPSIGNAL SIGRTMIN+3' - "$image" >/dev/null
