#!/usr/bin/env bash
# Builds every plugin twice, from two copies of the tree in different places
# with different caches and umasks, and fails unless the results are the same
# byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
VERSION=$(git describe --always --tags --dirty)
export VERSION

# digest prints the sums of a plugin's files and of its rootfs as a tar.
digest() {
    (cd "$1" && find . -type f -exec sha256sum {} + | sort -k2)
    tar -C "$1/rootfs" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner -c . |
        sha256sum | sed 's/-$/rootfs.tar/'
}

# copy puts the tracked and the new files, not the ignored ones, at a place.
copy() {
    mkdir -p "$1"
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' f; do [[ ! -e $f ]] || printf '%s\0' "$f"; done |
        tar -c --null -T - | tar -x -C "$1"
}

# The first copy builds with the caches there are, the second one with none.
copy "$work/one"
copy "$work/a/longer/path/two"
status=0
for dir in plugin-config/*/; do
    name=$(basename "$dir")
    [[ -d cmd/$name ]] || continue
    (umask 022 && "$work/one/scripts/rootfs.sh" "$name" "$work/out1/$name")
    (umask 077 && GOCACHE=$work/cache "$work/a/longer/path/two/scripts/rootfs.sh" "$name" "$work/out2/$name")
    if diff <(digest "$work/out1/$name") <(digest "$work/out2/$name"); then
        echo "reproducible: $name: both builds are the same"
        digest "$work/out1/$name"
    else
        echo "reproducible: $name: the builds differ, see above" >&2
        status=1
    fi
done
exit $status
