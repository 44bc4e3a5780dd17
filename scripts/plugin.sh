#!/usr/bin/env bash
# Installs the plugins from their build folders into the engine that the docker
# command talks to (DOCKER_HOST is respected), and removes them. Both can be
# repeated: what is there already stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
usage: scripts/plugin.sh install PLUGIN... [KEY=VALUE...]
       scripts/plugin.sh drain dockline-log [TIMEOUT=30s]
       scripts/plugin.sh uninstall PLUGIN... [TIMEOUT=30s] [FORCE=yes]

install creates each plugin from build/plugins/PLUGIN, applies those of the
settings that it has (docker plugin set) and enables it. Where an older build is installed, it is
upgraded in place: settings, spooled records and running containers stay.
Settings of an installed plugin are changed only while no container uses it.

drain waits until all records that the log plugin has spooled are delivered, and
says every now and then what is not.

uninstall disables and removes it. A log plugin is drained before, and left alone
where records cannot be delivered, for they would be gone, unless FORCE says so.
A network plugin that has networks is left alone: they would stay behind, half made.
TEXT
}

say() { printf 'plugin: %s\n' "$*"; }
die() { printf 'plugin: %s\n' "$*" >&2; exit 1; }

inspect() { docker plugin inspect --format "$2" "$1" 2>/dev/null; }

# folder is where the engine keeps the plugin's files.
folder() { printf '%s/plugins/%s' "$(docker info --format '{{.DockerRootDir}}')" "$(inspect "$1" '{{.Id}}')"; }

# same tells whether the installed plugin is the one in the build folder, by
# the file that the build leaves in the rootfs. An engine whose files cannot
# be seen from here counts as different.
same() {
    cmp -s "$(folder "$1")/rootfs/etc/dockline-build" "build/plugins/$1/rootfs/etc/dockline-build"
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
        die "another build of $name is installed and upgrading it needs docker-registry: run scripts/setup.sh, or make uninstall first"
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
    mount_again "$name"
}

# mount_again has the mounts of an upgraded plugin be what they were set to. The
# engine still shows that, but mounts what the new configuration says until it is
# told again (plugin/v2, Set and InitSpec).
mount_again() {
    local name=$1 mount
    while read -r mount; do
        grep -q "\"name\": *\"${mount%%.*}\"" "plugin-config/$name/config.json" || continue
        docker plugin set "$name" "$mount"
    done < <(inspect "$name" '{{range .Settings.Mounts}}{{.Name}}.source={{.Source}}{{"\n"}}{{end}}')
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
    : >"$registry_dir/log" # which is read before the registry has begun
    docker-registry serve "$registry_dir/config.yml" >>"$registry_dir/log" 2>&1 </dev/null &
    registry_pid=$!
    local deadline=$((SECONDS + 60))
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
        disable "$name" || die "$name is in use (see above), so its settings stay as they are. $(in_spite_of "$name" "$@")"
    fi
    docker plugin set "$name" "$@"
}

# in_spite_of says how settings are changed under containers, which go on.
in_spite_of() {
    local name=$1 what
    shift
    case $name in
    dockline-log) what="what containers write meanwhile waits" ;;
    *) what="containers stay connected" ;;
    esac
    printf 'To change them all the same (%s): docker plugin disable -f %s && docker plugin set %s %s; docker plugin enable %s' \
        "$what" "$name" "$name" "${*@Q}" "$name"
}

# enable starts a plugin and says what it says of its settings. What it says of an
# end of its own is in the engine's log alone.
enable() {
    local name=$1 said
    docker plugin enable "$name" >/dev/null ||
        die "$name does not start; why is in the engine's log, as plugin=$(inspect "$name" '{{.Id}}'): journalctl -u docker, or /var/log/dockline-dockerd.log where scripts/setup.sh started it"
    said=$(refuses "$name") || true
    case $said in *'is not set up right'* | *'setting COLLECTORS='*) die "$name is enabled, but: $said" ;; esac
}

# refuses prints why a plugin that is enabled does nothing, where that can be asked
# from here.
refuses() {
    [[ -x build/docker-dockline ]] || return 0
    case $1 in
    dockline-log) build/docker-dockline dockline log status --format '{{.Refuses}}' 2>&1 ;;
    dockline-net) build/docker-dockline dockline net ls 2>&1 ;;
    esac
}

# disable fails where the plugin is in use; the engine may let go of it only some
# moments after the last container is gone.
disable() {
    local name=$1 said
    for _ in {1..20}; do
        ! said=$(docker plugin disable "$name" 2>&1 >/dev/null) || return 0
        [[ $said == *"in use"* && $(users "$name") == 0 && -z $(networks "$name") ]] || break
        sleep 1
    done
    printf '%s\n' "$said" >&2
    return 1
}

# users prints how many running containers log by a plugin.
users() {
    docker ps -q | xargs -r docker inspect --format '{{.HostConfig.LogConfig.Type}}' 2>/dev/null | grep -c "^$1\(:latest\)\?$" || true
}

# networks prints those of a plugin.
networks() { docker network ls --filter "driver=$1:latest" --format '{{.Name}}' | paste -sd ' '; }

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
        enable "$name"
    fi
    say "$name is enabled ($(head -n 1 "build/plugins/$name/rootfs/etc/dockline-build"))"
}

# drain_plugin types what docs/log-driver.md says. Only a plugin that runs can
# deliver anything.
drain_plugin() {
    local name=$1 timeout=$2 command
    [[ $name == dockline-log ]] || die "there is nothing to drain in $name"
    inspect "$name" '{{.Id}}' >/dev/null || die "$name is not installed"
    command=$(folder "$name")/rootfs/$name
    [[ -x $command ]] || die "the engine's files cannot be seen from here; drain $name on the engine's machine, as root"
    if [[ $(inspect "$name" '{{.Enabled}}') != true ]]; then
        say "enabling $name, which has to run to deliver anything"
        enable "$name"
    fi
    "$command" drain -timeout "$timeout"
}

uninstall_plugin() {
    local name=$1 timeout=$2 force=$3
    if ! inspect "$name" '{{.Id}}' >/dev/null; then
        say "$name is not installed"
        return
    fi
    if [[ $name == dockline-log && $force != yes ]]; then
        drain_plugin "$name" "$timeout" ||
            die "$name holds records that are not delivered (see above), and would delete them. FORCE=yes removes it all the same"
    fi
    local left
    left=$(networks "$name")
    [[ -z $left ]] || die "$name has networks, and would leave what it made for them: docker network rm $left"
    if [[ $force == yes ]]; then
        docker plugin disable -f "$name" >/dev/null 2>&1 || true
    elif [[ $(inspect "$name" '{{.Enabled}}') == true ]]; then
        # Containers that go on writing would be stuck without their plugin.
        disable "$name" || die "$name is in use (see above). FORCE=yes removes it all the same"
    fi
    docker plugin rm -f "$name" >/dev/null
    say "$name is removed"
}

# known prints the settings that plugins have.
known() {
    local name
    for name in "$@"; do
        sed -n '/"env":/,$ s/.*"name": *"\([A-Z_]*\)".*/\1/p; /"mounts":/,/"env":/ s/.*"name": *"\([a-z]*\)".*/\1.source/p' "plugin-config/$name/config.json"
    done | sort -u | paste -sd ' '
}

# own prints the settings that a plugin has, of those given.
own() {
    local name=$1 setting
    shift
    for setting in "$@"; do
        ! grep -q "\"name\": *\"${setting%%[=.]*}\"" "plugin-config/$name/config.json" || printf '%s\n' "$setting"
    done
}

readonly oldest_api=1.41 # of engine 20.10

# check_engine sees that the engine is one that plugins run in.
check_engine() {
    local said
    command -v docker >/dev/null || die "there is no docker command here: run scripts/setup.sh --for install"
    if ! said=$(docker version --format '{{.Server.APIVersion}}' 2>&1); then
        case $said in
        *'permission denied'*) die "the engine lets you not in: run this as root, with sudo for example ($said)" ;;
        *) die "no engine answers ($said): start it, or have scripts/setup.sh --for install do that" ;;
        esac
    fi
    [[ $(printf '%s\n' "$said" "$oldest_api" | sort -V | head -n 1) == "$oldest_api" ]] ||
        die "the engine is older than 20.10 (its API is $said, not $oldest_api), which the plugins need"
    said=$(docker info --format '{{.SecurityOptions}}' 2>&1) || die "$said"
    [[ $said != *name=rootless* ]] || die "the engine is a rootless one, which cannot run plugins on the host's network: use root's"
}

main() {
    case ${1:-} in
    -h | --help) usage; exit 0 ;;
    install | drain | uninstall) (($# >= 2)) || { usage >&2; exit 2; } ;;
    *) usage >&2; exit 2 ;;
    esac
    check_engine
    local action=$1 arg name names=() settings=() timeout=30s force=no its
    shift
    for arg in "$@"; do
        case $action:$arg in
        drain:TIMEOUT=* | uninstall:TIMEOUT=*) timeout=${arg#*=} ;;
        uninstall:FORCE=*) force=${arg#*=} ;;
        install:*=*) settings+=("$arg") ;;
        *=*) die "there is no ${arg%%=*} of $action" ;;
        *) names+=("$arg") ;;
        esac
    done
    for arg in "${settings[@]}"; do
        for name in "${names[@]}"; do
            [[ -z $(own "$name" "$arg") ]] || continue 2
        done
        die "there is no setting ${arg%%=*} of ${names[*]}: there are $(known "${names[@]}")"
    done
    for name in "${names[@]}"; do
        case $action in # in a shell of its own: its clean-up comes with its end
        install)
            mapfile -t its < <(own "$name" "${settings[@]}")
            (install_plugin "$name" "${its[@]}")
            ;;
        drain) (drain_plugin "$name" "$timeout") ;;
        uninstall) (uninstall_plugin "$name" "$timeout" "$force") ;;
        esac
    done
}

main "$@"
