#!/usr/bin/env bash
# Brings a Debian machine to where dockline can be built, installed, tested and
# shown: installs the packages that are missing and starts the container engine
# where nothing else does. Running it again changes nothing.
set -euo pipefail

readonly engine_log=/var/log/dockline-dockerd.log
readonly policy=/usr/sbin/policy-rc.d
readonly policy_saved=/usr/sbin/policy-rc.d.dockline-saved
readonly lock=/run/dockline-setup.lock
readonly extracted=/var/cache/dockline-test # packages that are not installed
readonly engine_wait=60 # seconds until an engine that was started has to answer

# Daemons are where only the administrator's PATH leads.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

usage() {
    cat <<'TEXT'
usage: scripts/setup.sh [--for install|demo|test] [--no-engine] [--check] [--help]

  (nothing)    install what is missing, then make sure that an engine answers
  --for WHAT   only what make install, or make demo, needs; make test needs all
  --no-engine  install what is missing only
  --check      say what is missing and change nothing; exit 1 if something is

Needs root, unless nothing is missing, and a Debian (or Debian-like) machine. An engine at DOCKER_HOST, or
at the docker command's default place, is used as it is. Where none answers,
systemd is asked to start docker.service; without systemd, dockerd is started
in the background and logs to /var/log/dockline-dockerd.log.
TEXT
}

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# needs lists what has to exist, the package that brings it, and the least for
# which that is: install, demo or test. What counts is the file: a docker command
# without an engine beside it is not an engine.
needs() {
    cat <<'TEXT'
dockerd                                 docker.io           install
iptables                                iptables            install
docker-registry                         docker-registry     install
/etc/ssl/certs/ca-certificates.crt      ca-certificates     install
ip                                      iproute2            demo
busybox                                 busybox-static      demo
rsyslogd                                rsyslog             test
/usr/lib/*/rsyslog/imrelp.so            rsyslog-relp        test
/usr/lib/*/rsyslog/lmnsd_ossl.so        rsyslog-openssl     test
docker-compose                          docker-compose      test
nats-server                             nats-server         test
debootstrap                             debootstrap         test
etcd                                    etcd-server         test
dnsmasq                                 dnsmasq-base        test
kea-dhcp4                               kea-dhcp4-server    test
prometheus                              prometheus          test
promtool                                prometheus          test
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring test
mkfs.ext4                               e2fsprogs           test
iperf3                                  iperf3              test
qemu-system-x86_64                      qemu-system-x86     test
qemu-aarch64-static                     qemu-user-static    test
xz                                      xz-utils            test
/usr/lib/systemd/systemd-journald       systemd             test
gcc                                     gcc                 test
/usr/include/stdio.h                    libc6-dev           test
TEXT
}

wanted=test # what for, see needs

# counts tells whether something that is needed for $1 is needed for $wanted.
counts() {
    case $wanted:$1 in
    test:* | demo:install | demo:demo | install:install) return 0 ;;
    *) return 1 ;;
    esac
}

# beside lists packages that exclude one of the above, and what is wanted of them:
# those are unpacked below $extracted, and only what they depend on is installed.
beside() {
    cat <<'TEXT'
usr/sbin/syslog-ng syslog-ng-core
TEXT
}

has() {
    case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

missing() {
    local what package least
    while read -r what package least; do
        ! counts "$least" || has "$what" || echo "$package"
    done < <(needs) | sort -u
}

unpacked() {
    counts test || return 0
    local what package
    while read -r what package; do
        [[ -x $extracted/${package%-core}/$what ]] || echo "$package"
    done < <(beside)
}

# unpack puts a package's files, and those libraries that it needs and Debian has
# no installed package of, to where the tests look for them.
unpack() {
    local package=$1 dir depends
    say "unpacking $package below $extracted"
    hold_services
    dir=$(mktemp -d)
    chmod 755 "$dir"
    mkdir "$dir/deb"
    chown _apt "$dir/deb" 2>/dev/null || true
    apt update
    (cd "$dir/deb" && apt download "$package")
    # Alternatives and what only the service's script needs are left out.
    mapfile -t depends < <(dpkg-deb -f "$dir"/deb/*.deb Depends Pre-Depends | sed 's/^[^:]*: *//' | tr ',' '\n' |
        sed 's/|.*//; s/([^)]*)//g; s/[[:space:]]//g' | grep '^lib')
    apt install --no-install-recommends --no-upgrade -y "${depends[@]}"
    dpkg-deb -x "$dir"/deb/*.deb "$dir/tree"
    mkdir -p "$extracted"
    rm -rf "${extracted:?}/${package%-core}"
    mv "$dir/tree" "$extracted/${package%-core}"
    rm -rf "$dir"
    release_services
    trap - EXIT
}

# Newly installed services must not start: only their binaries are wanted, and
# the engine is started further down. policy-rc.d is how Debian asks for that.
hold_services() {
    if [[ ! -e $policy_saved && -e $policy ]]; then
        mv "$policy" "$policy_saved"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap release_services EXIT
}

release_services() {
    rm -f "$policy"
    if [[ -e $policy_saved ]]; then
        mv "$policy_saved" "$policy"
    fi
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

install_packages() {
    local packages=("$@")
    say "installing ${packages[*]}"
    command -v apt-get >/dev/null || die "there is no apt-get here: install ${packages[*]} by the means of this system"
    hold_services
    apt update
    apt install --no-install-recommends -y "${packages[@]}"
    # From Debian 13 on, the command is a package of its own.
    command -v docker >/dev/null || apt install --no-install-recommends -y docker-cli
    release_services
    trap - EXIT
    keep_off "${packages[@]}"
}

# keep_off makes sure that the services which came with the packages do not
# start at the next boot either.
keep_off() {
    [[ -d /run/systemd/system ]] || return 0
    local package
    for package in "$@"; do
        case $package in
        rsyslog | docker-registry | nats-server | prometheus) systemctl -q disable --now "$package.service" || true ;;
        etcd-server) systemctl -q disable --now etcd.service || true ;;
        kea-dhcp4-server) systemctl -q disable --now kea-dhcp4-server.service || true ;;
        esac
    done
}

engine_answers() {
    timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null </dev/null
}

# await_engine polls, because before the socket exists there is nothing to
# subscribe to. It gives up at once when the engine's process is gone.
await_engine() {
    local pid=${1:-} deadline=$((SECONDS + engine_wait))
    while ((SECONDS < deadline)); do
        engine_answers >/dev/null && return 0
        [[ -z $pid || -d /proc/$pid ]] || return 1
        sleep 0.2
    done
    return 1
}

start_engine_with_systemd() {
    say "starting docker.service"
    systemctl start docker.service || die "systemd could not start docker.service: see journalctl -u docker"
    await_engine || die "docker.service runs but does not answer: see journalctl -u docker"
}

# launch starts the engine in a session of its own; the lock is not inherited.
launch() {
    say "starting dockerd $* (log: $engine_log)"
    printf -- '---- %s: dockerd %s\n' "$(date -u +%FT%TZ)" "$*" >>"$engine_log"
    setsid nohup dockerd "$@" >>"$engine_log" 2>&1 </dev/null 9>&- &
    await_engine $!
}

start_engine_alone() {
    launch && return 0
    say "it did not come up; its last words were:"
    tail -n 3 "$engine_log" | sed 's/^/setup:   /'
    say "trying without the default bridge and without firewall rules, which dockline does not need"
    launch --bridge=none --iptables=false --ip6tables=false || die "dockerd does not come up: see $engine_log"
}

ensure_engine() {
    local version
    if version=$(engine_answers); then
        say "engine $version answers"
        return
    fi
    [[ -z ${DOCKER_HOST:-} || $DOCKER_HOST == unix:///var/run/docker.sock || $DOCKER_HOST == unix:///run/docker.sock ]] ||
        die "no engine answers at DOCKER_HOST=$DOCKER_HOST, which is not ours to start"
    if [[ -d /run/systemd/system ]]; then
        start_engine_with_systemd
    else
        start_engine_alone
    fi
    say "engine $(engine_answers) answers"
}

main() {
    local engine=yes check=no arg packages
    while (($# > 0)); do
        case $1:${2:-} in
        --for:install | --for:demo | --for:test) wanted=$2; shift ;;
        --no-engine:*) engine=no ;;
        --check:*) check=yes ;;
        -h:* | --help:*) usage; exit 0 ;;
        *) usage >&2; die "unknown option $1 ${2:-}" ;;
        esac
        shift
    done
    mapfile -t packages < <(missing && unpacked)
    if [[ $check == yes ]]; then
        ((${#packages[@]} == 0)) || die "missing: ${packages[*]}"
        [[ $engine == no ]] || engine_answers >/dev/null || die "no engine answers"
        say "nothing is missing"
        exit 0
    fi
    if ((${#packages[@]} == 0)) && { [[ $engine == no ]] || engine_answers >/dev/null; }; then
        say "nothing is missing"
        exit 0
    fi
    ((EUID == 0)) || die "this installs packages and starts the engine: run it as root, for example with sudo $0"
    exec 9>"$lock"
    flock 9
    mapfile -t packages < <(missing)
    ((${#packages[@]} == 0)) || install_packages "${packages[@]}"
    mapfile -t packages < <(unpacked)
    for arg in "${packages[@]}"; do unpack "$arg"; done
    [[ $engine == no ]] || ensure_engine
}

main "$@"
