# What a build says of itself, for the scripts that build: version, commit, date
# and epoch (of the commit, so that two builds of it are the same), and ldflags.
# VERSION, COMMIT and SOURCE_DATE_EPOCH win over what git says. A source tree
# without its history builds too, it only cannot say what it is.
# shellcheck shell=bash

version=${VERSION:-$(git describe --always --tags --dirty 2>/dev/null || echo unknown)}
version=${version#v} # tags are v1.2.3, versions 1.2.3
# It becomes a file's name and a registry's tag (distribution/reference).
[[ $version =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$ ]] ||
    { echo "VERSION=$version: a version has letters, digits, '.', '_' and '-', at most 100, and begins with a letter or digit" >&2; exit 2; }
commit=${COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
date=$(date -u -d "@$epoch" +%FT%TZ)
linked=github.com/dockline/dockline/internal/build
ldflags="-s -w -buildid= -X $linked.Version=$version -X $linked.Commit=$commit -X $linked.Date=$date"
