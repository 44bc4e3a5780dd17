#!/usr/bin/env bash
# Builds the folder that `docker plugin create` takes, config.json and rootfs/,
# for one plugin and the architecture that GOARCH says. Two builds of one commit
# give the same bytes wherever they are made: no path, no time and no file mode
# of the machine gets in.
set -euo pipefail
umask 022

if (($# < 1 || $# > 2)) || [[ $1 == -* ]]; then
    echo "usage: scripts/rootfs.sh PLUGIN [DIR]   (DIR: build/plugins/PLUGIN)" >&2
    exit 2
fi
readonly name=$1
cd "$(dirname "$0")/.."
readonly out=${2:-build/plugins/$name}
readonly config=plugin-config/$name/config.json
[[ -f $config && -d cmd/$name ]] || { echo "rootfs: there is no plugin $name here" >&2; exit 1; }

source scripts/version.sh

# The folder is made beside its place and renamed into it, so that nobody
# ever sees half a plugin.
readonly new=$out.new
rm -rf "$new"
mkdir -p "$new/rootfs/etc" "$new/rootfs/tmp" "$new/rootfs/run/docker/plugins"
# docker plugin ls and inspect show the description, of a disabled plugin too.
sed "s/\"description\": \"$name:/\"description\": \"$name $version:/" "$config" >"$new/config.json"
chmod 644 "$new/config.json"
propagated=$(sed -n 's/.*"propagatedMount": *"\([^"]*\)".*/\1/p' "$config")
[[ -z $propagated ]] || mkdir -p "$new/rootfs$propagated"

CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$new/rootfs/$name" "./cmd/$name"
chmod 755 "$new/rootfs/$name"

# What install compares to tell whether the plugin in the engine is this one.
{
    echo "version $version"
    (cd "$new" && sha256sum config.json "rootfs/$name")
} >"$new/rootfs/etc/dockline-build"

find "$new" -exec touch -h -d "@$epoch" {} +
rm -rf "$out"
mv "$new" "$out"
echo "rootfs: $out (version $version)"
