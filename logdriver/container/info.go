// Package container turns what the engine says of a container at StartLogging,
// and what its user asked for with --log-opt, into typed values. It stands
// beside the data path: what it makes is made once for each container start.
package container

import (
	"maps"
	"os"
	"strings"
	"time"

	"github.com/dockline/dockline/logdriver/process"
)

// Info is what the engine sends with StartLogging and ReadLogs (moby
// daemon/logger/loginfo.go), under its names.
type Info struct {
	Config              map[string]string // the log-opts
	ContainerID         string            // 64 hexadecimal digits
	ContainerName       string            // with a leading slash
	ContainerEntrypoint string
	ContainerArgs       []string
	ContainerImageID    string // sha256:…
	ContainerImageName  string
	ContainerCreated    time.Time
	ContainerEnv        []string // KEY=VALUE
	ContainerLabels     map[string]string
	LogPath             string
	DaemonName          string

	// Defaults are log-opts that the container does not give, from the
	// configuration as it was when it started; nil: nobody knows. The engine
	// sends none.
	Defaults map[string]string `json:",omitzero"`

	// HostName is what the plugin calls this host; "": what the kernel does.
	HostName string `json:"-"`
}

// given returns the log-opts in force.
func (i *Info) given() map[string]string {
	all := maps.Clone(i.Defaults)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, i.Config)
	process.Settle(all, i.Config)
	return all
}

const shortLen = 12

// The methods below are what a tag template can use, under the names that the
// engine's own drivers give them.

// ID returns the first 12 digits of the container's id.
func (i *Info) ID() string { return i.ContainerID[:min(shortLen, len(i.ContainerID))] }

// FullID returns the container's id.
func (i *Info) FullID() string { return i.ContainerID }

// Name returns the container's name without the slash before it.
func (i *Info) Name() string { return strings.TrimPrefix(i.ContainerName, "/") }

// ImageID returns the first 12 digits of the image's id.
func (i *Info) ImageID() string {
	_, digits, ok := strings.Cut(i.ContainerImageID, ":")
	if !ok {
		digits = i.ContainerImageID
	}
	return digits[:min(shortLen, len(digits))]
}

// ImageFullID returns the image's id with the name of its digest algorithm.
func (i *Info) ImageFullID() string { return i.ContainerImageID }

// ImageName returns the name that the container's image was asked for by.
func (i *Info) ImageName() string { return i.ContainerImageName }

// Command returns entrypoint and arguments, joined by spaces.
func (i *Info) Command() string {
	return strings.TrimSpace(i.ContainerEntrypoint + " " + strings.Join(i.ContainerArgs, " "))
}

// Hostname returns this host's name.
func (i *Info) Hostname() (string, error) {
	if i.HostName != "" {
		return i.HostName, nil
	}
	return os.Hostname()
}

// ExtraAttributes returns the labels and variables that were asked for, and the
// constants. keyMod, which may be nil, changes their names.
func (i *Info) ExtraAttributes(keyMod func(string) string) (map[string]string, error) {
	given := i.given()
	hide, err := process.Parse(optionWhat, given)
	if err != nil {
		return nil, err
	}
	attrs, err := attributes(i, given, hide)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, a := range attrs {
		if keyMod != nil {
			a.Key = keyMod(a.Key)
		}
		all[a.Key] = a.Value
	}
	return all, nil
}

// Env returns the value of an environment variable and whether it is set.
func (i *Info) Env(key string) (string, bool) {
	for _, kv := range i.ContainerEnv {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}
