#!/usr/bin/env bash
# Makes all files of a release in dist/: packages, archives, a bill of materials of each
# binary, and checksums. The version is that of the tag on the checked out commit, which
# CHANGELOG.md must tell of; SNAPSHOT=1 makes one of any other commit. The same commit,
# with the same Go, gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() {
	echo "release: $*" >&2
	exit 1
}
if [ -n "${SNAPSHOT:-}" ]; then
	version=${PACKAGE_VERSION:-$(./deploy/packages/version.sh)}
else
	version=$(./deploy/packages/version.sh)
	[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] && git describe --exact-match --tags --match 'v[0-9]*' >/dev/null 2>&1 ||
		fail "this commit is $version, not a tagged one without changes: git tag v1.2.3, or SNAPSHOT=1 for a trial"
	grep -q "^## \[\?$version\]\?\( \|$\)" CHANGELOG.md || fail "CHANGELOG.md has no \"## $version\""
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH ARCHS=${ARCHS:-amd64 arm64} PACKAGE_VERSION=$version
rm -rf dist
KEEP_STAGE=1 ./deploy/packages/build.sh
stage=dist/stage
go build -o "$stage/sbom" ./deploy/sbom
for arch in $ARCHS; do
	name=raftsman-$version-linux-$arch
	mkdir -p "$stage/$name"
	cp -r "$stage/bin/$arch/raftsman" "$stage/man" "$stage/completion" LICENSE README.md CHANGELOG.md deploy/systemd "$stage/$name"
	tar -C "$stage" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw -c "$name" | gzip -9n >"dist/$name.tar.gz"
	"$stage/sbom" -version "$version" "$stage/bin/$arch/raftsman" >"dist/$name.cdx.json"
done
rm -rf "$stage"
(cd dist && sha256sum -- * >SHA256SUMS)
ls -l dist
