#!/usr/bin/env bash
# Installs the plugins from their build folders into the engine that the docker
# command talks to (DOCKER_HOST is respected), and removes them. Both can be
# repeated: what is there already stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
usage: scripts/plugin.sh install PLUGIN... [KEY=VALUE...]
       scripts/plugin.sh uninstall PLUGIN...

install creates each plugin from build/plugins/PLUGIN, applies those of the
settings that it has (docker plugin set) and enables it. Where an older build is installed, it is
upgraded in place: settings, spooled records and running containers stay.
Settings of an installed plugin are changed only while no container uses it.

uninstall disables and removes it, with all that it had spooled. A network
plugin that has networks is left alone: they would stay behind, half made.
TEXT
}

say() { printf 'plugin: %s\n' "$*"; }
die() { printf 'plugin: %s\n' "$*" >&2; exit 1; }

inspect() { docker plugin inspect --format "$2" "$1" 2>/dev/null; }

# same tells whether the installed plugin is the one in the build folder, by
# the file that the build leaves in the rootfs. An engine whose files cannot
# be seen from here counts as different.
same() {
    local root
    root=$(docker info --format '{{.DockerRootDir}}')/plugins/$(inspect "$1" '{{.Id}}')/rootfs
    cmp -s "$root/etc/dockline-build" "build/plugins/$1/rootfs/etc/dockline-build"
}

create() {
    say "creating $1"
    docker plugin create "$1" "build/plugins/$1" >/dev/null
}

# upgrade takes the new build through a registry on the loopback interface that
# lives only as long: the engine upgrades from registries alone, and removing
# the plugin instead would delete what it has spooled.
upgrade() {
    local name=$1 remote said
    command -v docker-registry >/dev/null ||
        die "another build of $name is installed and upgrading it needs docker-registry: run scripts/setup.sh, or make uninstall first (which deletes what it has spooled)"
    start_registry
    remote=$registry_addr/$name:build
    say "upgrading $name in place"
    if ! said=$(docker plugin create "$remote" "build/plugins/$name" 2>&1); then
        # The engine keeps no two plugins of the same content.
        [[ $said == *"already exists"* ]] || die "$said"
        say "$name is installed already, this very build"
        return
    fi
    pushed=$remote
    docker plugin push "$remote" >/dev/null
    docker plugin disable -f "$name" >/dev/null 2>&1 || true
    if ! docker plugin upgrade --skip-remote-check --grant-all-permissions "$name" "$remote" >/dev/null; then
        docker plugin enable "$name" >/dev/null || true
        die "the upgrade of $name was refused (see above); the older build goes on"
    fi
}

registry_pid='' registry_dir='' registry_addr='' pushed=''

start_registry() {
    registry_dir=$(mktemp -d)
    trap stop_registry EXIT
    cat >"$registry_dir/config.yml" <<TEXT
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $registry_dir/data}}
http: {addr: "127.0.0.1:0"}
TEXT
    docker-registry serve "$registry_dir/config.yml" >"$registry_dir/log" 2>&1 </dev/null &
    registry_pid=$!
    local deadline=$((SECONDS + 20))
    while ((SECONDS < deadline)); do
        registry_addr=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$registry_dir/log")
        [[ -z $registry_addr ]] || return 0
        kill -0 "$registry_pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$registry_dir/log" >&2
    die "the registry for the upgrade does not come up (see above)"
}

stop_registry() {
    [[ -z $pushed ]] || docker plugin rm -f "$pushed" >/dev/null 2>&1 || true
    [[ -z $registry_pid ]] || kill "$registry_pid" 2>/dev/null || true
    rm -rf "$registry_dir"
}

# configure applies settings. The engine takes them only while the plugin is
# disabled, and refuses to disable one that containers use.
configure() {
    local name=$1
    shift
    (($# > 0)) || return 0
    if [[ $(inspect "$name" '{{.Enabled}}') == true ]]; then
        docker plugin disable "$name" >/dev/null ||
            die "$name is in use, so its settings cannot change now: stop the containers that log through it"
    fi
    docker plugin set "$name" "$@"
}

install_plugin() {
    local name=$1
    shift
    [[ -f build/plugins/$name/config.json ]] || die "there is no build of $name: run make plugins"
    if ! inspect "$name" '{{.Id}}' >/dev/null; then
        create "$name"
    elif ! same "$name"; then
        upgrade "$name"
    else
        say "$name is installed already, this very build"
    fi
    configure "$name" "$@"
    if [[ $(inspect "$name" '{{.Enabled}}') != true ]]; then
        docker plugin enable "$name" >/dev/null
    fi
    say "$name is enabled ($(head -n 1 "build/plugins/$name/rootfs/etc/dockline-build"))"
}

uninstall_plugin() {
    local name=$1
    if ! inspect "$name" '{{.Id}}' >/dev/null; then
        say "$name is not installed"
        return
    fi
    local networks
    networks=$(docker network ls --filter "driver=$name:latest" --format '{{.Name}}' | paste -sd ' ')
    [[ -z $networks ]] || die "$name has networks, and would leave what it made for them: docker network rm $networks"
    docker plugin disable -f "$name" >/dev/null 2>&1 || true
    docker plugin rm -f "$name" >/dev/null
    say "$name is removed"
}

# own prints the settings that a plugin has, of those given.
own() {
    local name=$1 setting
    shift
    for setting in "$@"; do
        ! grep -q "\"name\": *\"${setting%%[=.]*}\"" "plugin-config/$name/config.json" || printf '%s\n' "$setting"
    done
}

main() {
    case ${1:-} in
    -h | --help) usage; exit 0 ;;
    install | uninstall) (($# >= 2)) || { usage >&2; exit 2; } ;;
    *) usage >&2; exit 2 ;;
    esac
    docker version >/dev/null 2>&1 || die "no engine answers: run scripts/setup.sh"
    local action=$1 arg name names=() settings=() its
    shift
    for arg in "$@"; do
        if [[ $arg == *=* ]]; then settings+=("$arg"); else names+=("$arg"); fi
    done
    for arg in "${settings[@]}"; do
        for name in "${names[@]}"; do
            [[ -z $(own "$name" "$arg") ]] || continue 2
        done
        die "there is no setting ${arg%%=*} of ${names[*]}"
    done
    for name in "${names[@]}"; do
        mapfile -t its < <(own "$name" "${settings[@]}")
        ("${action}_plugin" "$name" "${its[@]}") # its clean-up comes with its end
    done
}

main "$@"
