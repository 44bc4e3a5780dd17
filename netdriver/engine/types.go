package engine

import "encoding/base64"

// Labels of the engine (libnetwork/netlabel/labels.go, libnetwork/ipamapi/contract.go).
const (
	labelGeneric  = "com.docker.network.generic"
	labelInternal = "com.docker.network.internal"
	labelIPv4     = "com.docker.network.enable_ipv4"
	labelIPv6     = "com.docker.network.enable_ipv6"
	labelMAC      = "com.docker.network.endpoint.macaddress"
	labelName     = "com.docker.network.endpoint.name"
	labelPrefix   = "com.docker."

	optionAddressType = "RequestAddressType"
	typeGateway       = "com.docker.network.gateway"

	optionHostName = "hostname" // of an endpoint (--driver-opt): for a DHCP server
)

// endpointLabels are those of the engine's own that come with an endpoint, with
// the names that users may give as --driver-opt for the engine itself to act on.
// An entry that ends in a dot stands for all that begin with it.
func endpointLabels() []string {
	return []string{
		labelGeneric, labelInternal, labelIPv4, labelIPv6, labelMAC, labelName, typeGateway,
		"com.docker.network.portmap",
		"com.docker.network.endpoint.exposedports",
		"com.docker.network.endpoint.dnsservers",
		"com.docker.network.endpoint.sysctls",
		"com.docker.network.endpoint.ifname",
		"com.docker.network.advertise_addr_nmsgs",
		"com.docker.network.advertise_addr_ms",
		"com.docker.network.container_iface_prefix",
		"com.docker.network.host_ipv4",
		"com.docker.network.host_ipv6",
		"com.docker.network.driver.",
		"com.docker.network.windowsshim.",
	}
}

// poolLabels are those of the engine's own that come with a pool.
func poolLabels() []string {
	return []string{labelGeneric, typeGateway, "com.docker.network.ipam.serial"}
}

// The types below are those that go-plugins-helpers has without fields that
// newer engines read or send (libnetwork/drivers/remote/api/api.go,
// libnetwork/ipams/remote/api/api.go); for the rest its own are used.

// networkCapabilities is the reply to NetworkDriver.GetCapabilities.
type networkCapabilities struct {
	Scope             string
	ConnectivityScope string
	GwAllocChecker    bool // since engine 28.0
}

// gwAllocRequest is NetworkDriver.GwAllocCheck, since engine 28.0. Options are
// those of CreateNetwork.
type gwAllocRequest struct {
	Options map[string]any
}

type gwAllocResponse struct {
	SkipIPv4, SkipIPv6 bool
}

// ipamCapabilities is the reply to IpamDriver.GetCapabilities.
type ipamCapabilities struct {
	RequiresMACAddress    bool
	RequiresRequestReplay bool
}

// infoResponse is the reply to EndpointOperInfo; the engine takes values of any type.
type infoResponse struct {
	Value map[string]any
}

type empty struct{}

// generic returns the -o map of a CreateNetwork's options.
func generic(options map[string]any) map[string]string {
	given, _ := options[labelGeneric].(map[string]any)
	out := make(map[string]string, len(given))
	for key, value := range given {
		if s, ok := value.(string); ok {
			out[key] = s
		}
	}
	return out
}

// flag returns a boolean label, which engines send as such or as text.
func flag(options map[string]any, label string, missing bool) bool {
	switch v := options[label].(type) {
	case bool:
		return v
	case string:
		return v == "true"
	}
	return missing
}

// macOption returns the MAC of an endpoint's options, which the engine sends
// base64 encoded because it is a byte slice there.
func macOption(options map[string]any) []byte {
	s, _ := options[labelMAC].(string)
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 6 {
		return nil
	}
	return b
}
