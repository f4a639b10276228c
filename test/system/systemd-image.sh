#!/usr/bin/env bash
# Makes the image raftsman-test-systemd:dev, a Debian that systemd runs in, from the
# packages of this one: that takes seconds and no network. It has the essential packages,
# systemd, and what they depend on, and dpkg in it knows them.
set -euo pipefail
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mapfile -t essential < <(dpkg-query -W -f '${Essential} ${Package}\n' | sed -n 's/^yes //p')
mapfile -t packages < <(apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
	systemd dbus procps "${essential[@]}" | sed -n 's/^\([a-z0-9][^ :<]*\).*/\1/p' | sort -u)
mapfile -t packages < <(dpkg-query -W -f '${Status} ${binary:Package}\n' "${packages[@]}" 2>/dev/null | sed -n 's/^install ok installed //p')

mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/usr/local/bin "$root"/var/lib/dpkg/{info,updates} "$root"/{proc,sys,dev,run,tmp}
for dir in bin sbin lib lib64; do
	ln -s "usr/$dir" "$root/$dir"
done
# Directories as such and not with all that is in them; documentation stays here.
dpkg -L "${packages[@]}" | grep '^/' | sed -E 's,^/(bin|sbin|lib|lib64)/,/usr/\1/,' |
	grep -Ev '^/((bin|sbin|lib|lib64|\.)$|usr/share/(doc|man|locale|zoneinfo|info)/)' | sort -u >"$root/tmp/files"
tar -C / --no-recursion --ignore-failed-read --warning=no-failed-read -T <(sed 's,^/,,' "$root/tmp/files") -cf - 2>/dev/null | tar -C "$root" -xf -
rm "$root/tmp/files"
for package in "${packages[@]}"; do
	cp /var/lib/dpkg/info/"$package".* "$root/var/lib/dpkg/info/" 2>/dev/null || cp /var/lib/dpkg/info/"${package%:*}".* "$root/var/lib/dpkg/info/"
done
cp /var/lib/dpkg/info/format "$root/var/lib/dpkg/info/"
dpkg-query -s "${packages[@]}" >"$root/var/lib/dpkg/status"
cp /etc/{passwd,group,shadow,gshadow,ld.so.cache,nsswitch.conf} "$root/etc/"
: >"$root/etc/machine-id"
tar -C "$root" -c . | docker import --change 'CMD ["/usr/lib/systemd/systemd"]' - raftsman-test-systemd:dev >/dev/null
