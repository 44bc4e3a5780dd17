#!/usr/bin/env bash
# Goes the way of somebody who has never seen dockline: the first steps of
# README.md, word for word, and looks whether each had the effect that the README
# promises. What is typed is not repeated here: `block` takes it from there.
#
#   HOST=COMMAND NEIGHBOUR=COMMAND DIR=PATH [IMAGE=FILE] test/newuser/newuser.sh
#
# HOST is what runs a shell on a bare Debian without an engine, "ssh root@host" for
# example; the checkout is DIR there. NEIGHBOUR is the same for another machine of
# its LAN, the collector. Where the host reaches no registry, IMAGE is the files, as
# a tar that it sees, of what stands for the images. make newuser makes two such
# machines.
# The last line is the result, in seconds.
set -euo pipefail
shopt -s lastpipe # what reads from a command may set variables

: "${HOST:?see the first lines of $0}" "${NEIGHBOUR:?}" "${DIR:?}"
readme=$(cd "$(dirname "$0")/../.." && pwd)/README.md
readonly readme

die() { printf 'newuser: failed: %s\n' "$*" >&2; exit 1; }

# block prints the commands that the README has for one of the first steps.
block() {
    local text
    text=$(awk -v mark="<!-- docs: step $1 -->" '
        $0 == mark { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside' "$readme")
    [[ -n $text ]] || die "README.md has no commands below <!-- docs: step $1 -->"
    printf '%s\n' "$text"
}

# on runs commands, from stdin, on a machine; each of them has to succeed. They are
# read as a whole before they run, so that none takes the rest for its input.
on() { { printf 'set -euo pipefail\n{\n'; cat; printf '\n} </dev/null; exit\n'; } | $1 bash -s 2>&1; }

host() { { printf 'cd %q\n' "$DIR"; cat; } | on "$HOST"; }

neighbour() { on "$NEIGHBOUR"; }

# typed shows what is typed on a machine, and types it; what it prints is in said.
typed() {
    local commands line
    commands=$(block "$2")
    printf '%s\n' "$commands" | sed 's/^/    $ /'
    said=''
    printf '%s\n' "$commands" | "$1" | while IFS= read -r line; do
        printf '    %s\n' "$line"
        said+=$line$'\n'
        # make install has parts that are worth a time of their own.
        case $line in
        'cli: build/'*) took build ;;
        'setup: '*' answers') took engine ;;
        esac
    done
}

expect() { [[ $said == *$1* ]] || die "it does not say: $1"; }

seconds() { awk -v from="$1" -v to="$2" 'BEGIN { printf "%.1f", to - from }'; }

result='' began=$EPOCHREALTIME last=$EPOCHREALTIME

# took notes how long it is since the step before.
took() {
    local now=$EPOCHREALTIME
    result+="$1=$(seconds "$last" "$now") "
    last=$now
}

step() { printf '\n==> %s\n' "$*"; }

# there lists the host's interfaces and what there is of dockline beside the
# checkout. The engine's log, which setup.sh began, is the engine's.
there() {
    host <<'TEXT'
ls /sys/class/net | grep -vx docker0
grep -h dockline /sys/class/net/*/ifalias || true
! command -v docker >/dev/null || docker plugin ls --format '{{.Name}}'
! command -v docker >/dev/null || docker network ls --format '{{.Name}}' | grep -vxE 'bridge|host|none' || true
! command -v iptables-save >/dev/null || iptables-save | grep dockline || true
find / -xdev -name '*dockline*' -not -path "$PWD*" -not -name dockline-dockerd.log -not -name dockline-setup.lock
TEXT
}

step "a collector, on the neighbour"
typed neighbour collector
before=$(there)
began=$EPOCHREALTIME last=$began

step "a bare Debian with a checkout gets what it needs"
block get | grep -v -e '^git clone' -e '^cd ' | host >/dev/null
took packages

step "build and install"
typed host install
expect 'dockline-log is enabled'
expect 'dockline-net is enabled'
took install

if [[ -n ${IMAGE:-} ]]; then
    step "the images, which there is no registry for"
    for name in $(block logs | grep -o alpine) $(block network | grep -o nginx); do
        printf 'docker import --change "ENV PATH=/bin" --change "CMD httpd -f" %q %q\n' "$IMAGE" "$name"
    done | host >/dev/null
    took images
fi

step "a container that logs"
typed host logs
expect 'hello from a container'
# The collector has it in its queue when it acknowledges it, and in the file soon after.
for _ in {1..600}; do
    ! block collected | neighbour >/dev/null || break
    sleep 0.1
done
typed neighbour collected
took first_record

step "docker logs"
typed host 'docker logs'
expect 'hello from a container'
took docker_logs

step "a container on the LAN"
typed host network
took network
typed neighbour neighbour
took neighbour_answered

step "a look into it"
typed host look
took look

step "away with all of it"
typed host uninstall
took uninstall
after=$(there)
[[ $after == "$before" ]] || die "of it is left:"$'\n'"$(diff <(printf '%s\n' "$before") <(printf '%s\n' "$after"))"

printf '\nnewuser: ok %stotal=%s\n' "$result" "$(seconds "$began" "$EPOCHREALTIME")"
