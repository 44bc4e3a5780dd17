#!/usr/bin/env bash
# Builds docker dockline, and puts it where the docker command looks for plugins
# of its own. All can be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly name=docker-dockline
built=build/$name
readonly dir=${CLI_DIR:-/usr/local/lib/docker/cli-plugins}

usage() {
    cat <<'TEXT'
usage: scripts/cli.sh build [FILE] | install | uninstall

build makes build/docker-dockline, or FILE, for the architecture that GOARCH says.
install puts build/docker-dockline into CLI_DIR, which is by default
/usr/local/lib/docker/cli-plugins, for all users. uninstall removes it there, but
not while a plugin is installed that it is for.
TEXT
}

say() { printf 'cli: %s\n' "$*"; }

# ours tells whether the engine has one of the plugins; one that cannot be asked
# has none that could be looked into from here.
ours() {
    local id
    for id in $(docker plugin ls -q 2>/dev/null); do
        case $(docker plugin inspect --format '{{.Config.Interface.Socket}}' "$id" 2>/dev/null) in
        dockline-log.sock | dockline-net.sock) return 0 ;;
        esac
    done
    return 1
}

build() {
    local version commit date epoch linked ldflags
    source scripts/version.sh
    mkdir -p "$(dirname "$built")"
    CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$built" "./cmd/$name"
    say "$built (version $version)"
}

put() {
    if cmp -s "$built" "$dir/$name"; then
        say "docker dockline is installed already, this very build"
        return
    fi
    if ! { mkdir -p "$dir" && [[ -w $dir ]]; } 2>/dev/null; then
        say "docker dockline is not installed, for $dir cannot be written to: CLI_DIR=~/.docker/cli-plugins is another place"
        return
    fi
    install -m 755 "$built" "$dir/.$name.new" # and renamed: it may run just now
    mv "$dir/.$name.new" "$dir/$name"
    say "docker dockline is in $dir"
}

remove() {
    [[ -e $dir/$name ]] || return 0
    if ours; then
        say "docker dockline stays, for one of its plugins does"
        return
    fi
    rm -f "$dir/$name"
    say "docker dockline is removed"
}

case ${1:-} in
build) built=${2:-$built} && build ;;
install) put ;;
uninstall) remove ;;
-h | --help) usage ;;
*) usage >&2; exit 2 ;;
esac
