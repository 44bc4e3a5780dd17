#!/usr/bin/env bash
# Builds docker dockline, and puts it where the docker command looks for plugins
# of its own. All can be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly name=docker-dockline
readonly built=build/$name
readonly dir=${CLI_DIR:-/usr/local/lib/docker/cli-plugins}

usage() {
    cat <<'TEXT'
usage: scripts/cli.sh build | install | uninstall

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
    local version commit date linked=github.com/dockline/dockline/internal/build # as scripts/rootfs.sh has it
    version=${VERSION:-$(git describe --always --tags --dirty 2>/dev/null || echo unknown)}
    commit=${COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
    date=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}" +%FT%TZ)
    mkdir -p build
    CGO_ENABLED=0 go build -trimpath -buildvcs=false \
        -ldflags "-s -w -buildid= -X $linked.Version=$version -X $linked.Commit=$commit -X $linked.Date=$date" \
        -o "$built" "./cmd/$name"
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
build) build ;;
install) put ;;
uninstall) remove ;;
-h | --help) usage ;;
*) usage >&2; exit 2 ;;
esac
