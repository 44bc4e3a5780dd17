// Package field names what goes with every record of a stream: the names that
// collectors see, what they mean, and what OpenTelemetry calls them. container
// finds the values, sinks encode them, each once for a stream.
package field

import "slices"

// Attr is one key and value.
type Attr struct{ Key, Value string }

// Names of fields. They are stable: what is searched for downstream depends on them.
const (
	Host             = "host"
	Tag              = "tag"
	ContainerID      = "container_id"
	ContainerName    = "container_name"
	ImageID          = "image_id"
	ImageName        = "image_name"
	Command          = "command"
	Created          = "created"
	Engine           = "engine"
	Version          = "dockline_version"
	ComposeProject   = "compose_project"
	ComposeService   = "compose_service"
	ComposeNumber    = "compose_number"
	SwarmStack       = "swarm_stack"
	SwarmService     = "swarm_service"
	SwarmTask        = "swarm_task"
	SwarmNode        = "swarm_node"
	NomadNamespace   = "nomad_namespace"
	NomadJob         = "nomad_job"
	NomadGroup       = "nomad_group"
	NomadTask        = "nomad_task"
	NomadAlloc       = "nomad_alloc"
	MesosTask        = "mesos_task"
	MarathonApp      = "marathon_app"
	MarathonVersion  = "marathon_version"
	ChronosJob       = "chronos_job"
	K8sNamespace     = "k8s_namespace"
	K8sPod           = "k8s_pod"
	K8sPodUID        = "k8s_pod_uid"
	K8sContainer     = "k8s_container"
	otelServiceName  = "service.name"
	otelServiceSpace = "service.namespace"
)

// Field says what is behind a name.
type Field struct {
	Name string
	Doc  string
	OTel string // the attribute of OpenTelemetry's semantic conventions, or one below dockline. where they have none
}

// All returns the fields, in the order in which they are sent.
func All() []Field {
	return []Field{
		{Host, "this host's name: the setting `HOST_NAME`, or its own", "host.name"},
		{Tag, "the log-opt `tag`, expanded", "dockline.tag"},
		{ContainerID, "all 64 digits", "container.id"},
		{ContainerName, "without the slash", "container.name"},
		{ImageID, "with the digest's algorithm", "container.image.id"},
		{ImageName, "as it was asked for", "container.image.name"},
		{Command, "entrypoint and arguments, the first 1 KiB", "container.command_line"},
		{Created, "when the container was created; RFC 3339, UTC", "dockline.container.created"},
		{Engine, "what the engine calls itself: `docker`", "container.runtime.name"},
		{Version, "of the plugin that sends the record", "dockline.version"},
		{ComposeProject, "Compose: the project", "dockline.compose.project"},
		{ComposeService, "the service", "dockline.compose.service"},
		{ComposeNumber, "which of the service's containers", "dockline.compose.number"},
		{SwarmStack, "Swarm: the stack", "dockline.swarm.stack"},
		{SwarmService, "the service", "dockline.swarm.service"},
		{SwarmTask, "the task's name", "dockline.swarm.task"},
		{SwarmNode, "the node's id", "dockline.swarm.node"},
		{NomadNamespace, "Nomad: the namespace", "dockline.nomad.namespace"},
		{NomadJob, "the job's name", "dockline.nomad.job"},
		{NomadGroup, "the task group", "dockline.nomad.group"},
		{NomadTask, "the task", "dockline.nomad.task"},
		{NomadAlloc, "the allocation's id", "dockline.nomad.alloc"},
		{MesosTask, "Mesos: the task's id", "dockline.mesos.task"},
		{MarathonApp, "Marathon: the app's id, such as `/shop/web`", "dockline.marathon.app"},
		{MarathonVersion, "the app's version", "dockline.marathon.version"},
		{ChronosJob, "Chronos: the job", "dockline.chronos.job"},
		{K8sNamespace, "Kubernetes: the pod's namespace", "k8s.namespace.name"},
		{K8sPod, "the pod's name", "k8s.pod.name"},
		{K8sPodUID, "the pod's id", "k8s.pod.uid"},
		{K8sContainer, "the container's name in the pod", "k8s.container.name"},
	}
}

// services says, for each scheduler, which fields name a service and the group
// that it belongs to.
var services = []struct{ name, space string }{
	{ComposeService, ComposeProject},
	{SwarmService, SwarmStack},
	{NomadTask, NomadJob},
	{MarathonApp, ""},
	{ChronosJob, ""},
	{K8sContainer, K8sNamespace},
}

// Services says which fields OpenTelemetry's service.name and service.namespace
// are taken from: of each pair the first that a container has.
func Services() [][2]string {
	var all [][2]string
	for _, s := range services {
		all = append(all, [2]string{s.name, s.space})
	}
	return all
}

// Taken reports whether a name is a field's, here or for OpenTelemetry, so that
// no attribute may have it.
func Taken(name string) bool {
	for _, f := range All() {
		if name == f.Name || name == f.OTel {
			return true
		}
	}
	return false
}

// Resource returns the fields as attributes of a resource of OpenTelemetry's:
// under the names of its conventions, with service.name, which is the container's
// name where that belongs to no service, and service.namespace. These two give way
// to attrs, which are not among what is returned.
func Resource(fields, attrs []Attr) []Attr {
	names, values := map[string]string{}, map[string]string{}
	for _, f := range All() {
		names[f.Name] = f.OTel
	}
	var all []Attr
	add := func(key, value string) {
		if value != "" {
			all = append(all, Attr{key, value})
		}
	}
	for _, f := range fields {
		values[f.Key] = f.Value
		add(names[f.Key], f.Value)
	}
	if slices.ContainsFunc(attrs, func(a Attr) bool { return a.Key == otelServiceName || a.Key == otelServiceSpace }) {
		return all
	}
	for _, s := range services {
		if values[s.name] != "" {
			add(otelServiceName, values[s.name])
			add(otelServiceSpace, values[s.space])
			return all
		}
	}
	add(otelServiceName, values[ContainerName])
	return all
}
