package container

import "github.com/dockline/dockline/logdriver/field"

// maxField bounds a field that others give a value, in bytes.
const maxField = 256

// maxCommand bounds the command in what is sent, in bytes.
const maxCommand = 1 << 10

// origin says where a field's value is found: the first that is there, labels
// before variables. These variables are names, never secrets, and so need not be
// asked for.
type origin struct {
	field  string
	labels []string
	env    []string
}

// origins are what schedulers tell a container, and everybody who looks at it.
// Sources: docker/compose pkg/api/labels.go; moby daemon/cluster/executor/container
// and docker/cli compose/convert; nomad drivers/docker and client/taskenv; mesos
// src/slave/containerizer/docker.cpp; marathon EnvironmentHelper; chronos; kubernetes
// pkg/kubelet/types/labels.go.
func origins() []origin {
	return []origin{
		{field.ComposeProject, []string{"com.docker.compose.project"}, nil},
		{field.ComposeService, []string{"com.docker.compose.service"}, nil},
		{field.ComposeNumber, []string{"com.docker.compose.container-number"}, nil},
		{field.SwarmStack, []string{"com.docker.stack.namespace"}, nil},
		{field.SwarmService, []string{"com.docker.swarm.service.name"}, nil},
		{field.SwarmTask, []string{"com.docker.swarm.task.name"}, nil},
		{field.SwarmNode, []string{"com.docker.swarm.node.id"}, nil},
		{field.NomadNamespace, []string{"com.hashicorp.nomad.namespace"}, []string{"NOMAD_NAMESPACE"}},
		{field.NomadJob, []string{"com.hashicorp.nomad.job_name"}, []string{"NOMAD_JOB_NAME"}},
		{field.NomadGroup, []string{"com.hashicorp.nomad.task_group_name"}, []string{"NOMAD_GROUP_NAME"}},
		{field.NomadTask, []string{"com.hashicorp.nomad.task_name"}, []string{"NOMAD_TASK_NAME"}},
		{field.NomadAlloc, []string{"com.hashicorp.nomad.alloc_id"}, []string{"NOMAD_ALLOC_ID"}},
		{field.MesosTask, []string{"MESOS_TASK_ID"}, []string{"MESOS_TASK_ID", "mesos_task_id"}},
		{field.MarathonApp, []string{"MARATHON_APP_ID"}, []string{"MARATHON_APP_ID"}},
		{field.MarathonVersion, []string{"MARATHON_APP_VERSION"}, []string{"MARATHON_APP_VERSION"}},
		{field.ChronosJob, []string{"CHRONOS_JOB_NAME"}, []string{"CHRONOS_JOB_NAME"}},
		{field.K8sNamespace, []string{"io.kubernetes.pod.namespace"}, nil},
		{field.K8sPod, []string{"io.kubernetes.pod.name"}, nil},
		{field.K8sPodUID, []string{"io.kubernetes.pod.uid"}, nil},
		{field.K8sContainer, []string{"io.kubernetes.container.name"}, nil},
	}
}

// Workload returns what the container is part of, as its scheduler says.
func (i *Info) Workload() []Attr {
	var all []Attr
	env := i.environment()
	for _, o := range origins() {
		if v := firstOf(o.labels, i.ContainerLabels); v != "" {
			all = append(all, Attr{Key: o.field, Value: shortened(v, maxField)})
		} else if v := firstOf(o.env, env); v != "" {
			all = append(all, Attr{Key: o.field, Value: shortened(v, maxField)})
		}
	}
	return all
}

func firstOf(keys []string, values map[string]string) string {
	for _, k := range keys {
		if v := values[k]; v != "" {
			return v
		}
	}
	return ""
}
