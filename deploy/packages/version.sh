#!/usr/bin/env bash
# Prints the version of packages for the checked out commit, such as 1.2.3 for the tag
# v1.2.3. What lies between tags sorts after the tag before and before the next one.
set -euo pipefail
cd "$(dirname "$0")"
if described=$(git describe --tags --match 'v[0-9]*' --dirty=.dirty 2>/dev/null); then
	described=${described#v}
	# 1.2.3-4-gabcdef, the fourth commit after the tag, is 1.2.3+4.gabcdef
	[[ $described =~ ^(.*)-([0-9]+)-(g[0-9a-f]+.*)$ ]] && described="${BASH_REMATCH[1]}+${BASH_REMATCH[2]}.${BASH_REMATCH[3]}"
	# 1.2.3.dirty is none of semantic versioning's, and dirt is newer than the tag
	[[ $described == *+* ]] || described=${described/.dirty/+dirty}
	echo "$described"
elif commit=$(TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M%S --format=%cd.g%h 2>/dev/null); then
	git diff --quiet HEAD -- ../.. || commit+=.dirty
	echo "0.0.0-$commit"
else
	echo 0.0.0-unknown
fi
