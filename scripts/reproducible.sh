#!/usr/bin/env bash
# Builds a release twice, from two copies of the tree, and fails unless all files
# of both, for each architecture, are the same byte for byte. The second build is
# later, elsewhere, by another user with another umask, time zone and language,
# from files of other dates, and for this machine's architecture from nothing that
# the first has compiled: it has a compiler's cache of its own, which is kept for
# the next time.
set -euo pipefail

if (($# > 0)); then
    echo "usage: scripts/reproducible.sh   (builds twice and compares; takes minutes the first time)" >&2
    exit 2
fi
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

source scripts/version.sh
export VERSION=$version COMMIT=$commit SOURCE_DATE_EPOCH=$epoch
if [[ $version =~ ^[0-9.]+$ ]]; then
    VERSION=$version-rc # a numbered one is made of what a commit has only
fi
GOMODCACHE=$(go env GOMODCACHE)
export GOMODCACHE
readonly second_cache=${XDG_CACHE_HOME:-$HOME/.cache}/dockline-reproducible

# copy puts the tracked and the new files, not the ignored ones, at a place.
copy() {
    mkdir -p "$1"
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' f; do [[ ! -e $f ]] || printf '%s\0' "$f"; done |
        tar -c --null -T - | tar -x "${@:2}" -C "$1"
}

# as_somebody runs a command as a user who is not the one of here, to whom our
# files belong; nobody has to exist for it. Where a system forbids that, it is us.
as_somebody() {
    local unshare=(unshare --user --map-user=1234 --map-group=1234)
    "${unshare[@]}" true 2>/dev/null || unshare=()
    "${unshare[@]}" "$@"
}

copy "$work/one"
copy "$work/a/longer/path/two" --touch
(umask 022 && "$work/one/scripts/release.sh" "$work/out1")
(umask 077 && export "GOCACHE_$(go env GOHOSTARCH)=$second_cache" && TZ=Asia/Kolkata LC_ALL=C.UTF-8 \
    as_somebody "$work/a/longer/path/two/scripts/release.sh" "$work/out2")
if ! diff "$work/out1/SHA256SUMS" "$work/out2/SHA256SUMS"; then
    echo "reproducible: the builds differ, see above" >&2
    exit 1
fi
(cd "$work/out2" && sha256sum --quiet -c SHA256SUMS)

# runs asks a program what it is, where need be on an emulated processor.
runs() {
    local file=$1 arch=$2 run=() said
    case $arch:$(uname -m) in
    amd64:x86_64 | arm64:aarch64) ;;
    amd64:*) run=(qemu-x86_64-static) ;;
    arm64:*) run=(qemu-aarch64-static) ;;
    esac
    said=$("${run[@]}" "$file" version)
    [[ $said == *" $VERSION, commit $COMMIT of $date, "*" linux/$arch" ]] ||
        { echo "reproducible: $file says that it is '$said'" >&2; exit 1; }
    echo "reproducible: $said"
}
for arch in amd64 arm64; do
    runs "$work/out2/docker-dockline_${VERSION}_linux_$arch" "$arch"
    for archive in "$work/out2/"*"_${VERSION}_linux_$arch.tar.gz"; do
        plugin=$(basename "$archive" "_${VERSION}_linux_$arch.tar.gz")
        mkdir "$work/unpacked"
        tar -xzf "$archive" -C "$work/unpacked"
        runs "$work/unpacked/rootfs/$plugin" "$arch"
        rm -rf "$work/unpacked"
    done
done
echo "reproducible: both builds are the same"
cat "$work/out1/SHA256SUMS"
