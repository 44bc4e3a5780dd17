#!/usr/bin/env bash
# Fetches Debian's kernel for clouds, for the virtual machine of test/vm, and
# prints where it is unpacked. It is not installed. What is there already is
# used as it is; CACHE says where.
set -euo pipefail

if (($# > 0)); then
    echo "usage: scripts/vm-kernel.sh   (prints where the kernel is; CACHE says where it is kept)" >&2
    exit 2
fi
readonly cache=${CACHE:-/var/cache/dockline-test/vm}

die() { printf 'vm-kernel: %s\n' "$*" >&2; exit 1; }

have() { compgen -G "$1/boot/vmlinuz-*" >/dev/null; }

# newest names the package that the one without a version stands for.
newest() { apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1; }

# The folder is root's, as is whoever runs this.
download() { apt-get -qq -o APT::Sandbox::User=root download "$1"; }

fetch() {
    local to=$1 package
    package=$(newest)
    if [[ -z $package ]]; then
        apt-get -qq update </dev/null >&2
        package=$(newest)
    fi
    [[ -n $package ]] || die "apt knows no linux-image-cloud-amd64"
    # Not local: the trap, which removes it, comes after the function has returned.
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    (cd "$work" && { download "$package" || { apt-get -qq update && download "$package"; }; }) </dev/null >&2
    dpkg-deb -x "$work"/*.deb "$work/tree" >&2
    have "$work/tree" || die "$package holds no kernel"
    rm -rf "$to"
    mv "$work/tree" "$to"
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
have "$cache/tree" || fetch "$cache/tree"
echo "$cache/tree"
