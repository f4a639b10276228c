#!/usr/bin/env bash
# Builds the packages into dist/, for the architectures named in ARCHS (default: this
# machine's). The same commit gives the same bytes: times are the commit's, or
# SOURCE_DATE_EPOCH, and the version is version.sh's, or PACKAGE_VERSION.
set -euo pipefail
cd "$(dirname "$0")/../.."
PACKAGE_VERSION=${PACKAGE_VERSION:-$(./deploy/packages/version.sh)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

export PACKAGE_VERSION SOURCE_DATE_EPOCH
archs=${ARCHS:-$(go env GOARCH)}
formats=${FORMATS:-deb rpm}
stage=dist/stage
rm -rf "$stage" dist/*.deb dist/*.rpm
mkdir -p "$stage/completion"

# PREBUILT is one for this machine that is there already.
for arch in $archs; do
	mkdir -p "$stage/bin/$arch"
	if [ -n "${PREBUILT:-}" ] && [ "$arch" = "$(go env GOARCH)" ]; then
		cp "$PREBUILT" "$stage/bin/$arch/raftsman"
		continue
	fi
	echo "building raftsman $PACKAGE_VERSION for linux/$arch"
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -X main.buildVersion=v$PACKAGE_VERSION" \
		-o "$stage/bin/$arch/raftsman" ./cmd/raftsman
done
host=$stage/bin/$(go env GOHOSTARCH)/raftsman
[ -x "$host" ] || host="go run ./cmd/raftsman"
$host manpages "$stage/man"
gzip -9n "$stage"/man/*.1
for shell in bash zsh fish; do
	$host completion "$shell" >"$stage/completion/raftsman.$shell"
done
nfpm=$(go -C deploy/tools tool -n nfpm)
for arch in $archs; do
	for format in $formats; do
		(cd deploy/packages && PACKAGE_ARCH=$arch "$nfpm" package --config nfpm.yaml --packager "$format" --target ../../dist/)
	done
done
[ -n "${KEEP_STAGE:-}" ] || rm -rf "$stage"
