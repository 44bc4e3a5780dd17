#!/usr/bin/env bash
# Builds what a release is made of, for each architecture: both plugins as
# archives that docker plugin create takes, docker dockline, what is linked into
# each, the digests of the plugins' images, and the sums of all. Two builds of one
# commit by one Go release give the same bytes.
set -euo pipefail
umask 022

if (($# > 1)) || [[ ${1:-} == -* ]]; then
    echo "usage: scripts/release.sh [DIR]   (DIR: build/release/VERSION)" >&2
    exit 2
fi
cd "$(dirname "$0")/.."
readonly arches=(amd64 arm64)

say() { printf 'release: %s\n' "$*"; }
die() { printf 'release: %s\n' "$*" >&2; exit 1; }

source scripts/version.sh

# A numbered release is what a commit has, and somebody has written down what is new.
if [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]; then
    [[ -z $(git status --porcelain 2>/dev/null) ]] ||
        die "VERSION=$version: there are changes that no commit has (git status), so nobody could build the same again: commit them"
    grep -q "^## \[\?${version//./\\.}\]\?\( \|$\)" CHANGELOG.md ||
        die "VERSION=$version: CHANGELOG.md has no section '## $version': see docs/release.md"
fi

readonly out=${1:-build/release/$version}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

go build -C tools/release -o "$work/pack" .

# What somebody has set for his own builds stays outside.
export VERSION=$version COMMIT=$commit SOURCE_DATE_EPOCH=$epoch
export GOOS=linux GOAMD64=v1 GOARM64=v8.0 GOFLAGS=-mod=readonly GOWORK=off GOEXPERIMENT='' GODEBUG='' GOFIPS140=off
GOCACHE=$(go env GOCACHE)
export GOCACHE
shared=$GOCACHE
for arch in "${arches[@]}"; do
    own=GOCACHE_$arch # a cache of the compiler for this one alone, see scripts/reproducible.sh
    GOCACHE=${!own:-$shared}
    for config in plugin-config/*/config.json; do
        name=$(basename "$(dirname "$config")")
        GOARCH=$arch scripts/rootfs.sh "$name" "$work/built/$arch/$name" >/dev/null
    done
    GOARCH=$arch scripts/cli.sh build "$work/built/$arch/docker-dockline" >/dev/null
done
rm -rf "$out"
mkdir -p "$out"
"$work/pack" pack -version "$version" -date "$epoch" "$work/built" "$out"
say "$out (version $version)"
