{{/*
The operator's rights in the namespaces that it serves. docs/security.md explains each.
Every rule names its resources; tests/chart/run refuses wildcards.
*/}}
{{- define "queuescaler.rules" -}}
# To watch the objects that it serves.
- apiGroups: ["queuescaler.io"]
  resources: ["queuescalers"]
  verbs: ["list", "watch"]
# To write what it observed and decided.
- apiGroups: ["queuescaler.io"]
  resources: ["queuescalers/status"]
  verbs: ["patch"]
# To watch ready pods and rollouts of the workloads.
- apiGroups: ["apps"]
  resources: ["deployments", "statefulsets"]
  verbs: ["list", "watch"]
# To scale. It cannot change the workloads themselves: the images, commands and Secrets of their pods.
- apiGroups: ["apps"]
  resources: ["deployments/scale", "statefulsets/scale"]
  verbs: ["get", "update"]
# To find workloads that another autoscaler scales, which it leaves alone.
- apiGroups: ["autoscaling"]
  resources: ["horizontalpodautoscalers"]
  verbs: ["list", "watch"]
# To read the credentials that a QueueScaler names, one by one. It cannot list Secrets.
- apiGroups: [""]
  resources: ["secrets"]
  verbs: ["get"]
# To emit events: each scaling and each change of a condition.
- apiGroups: ["events.k8s.io"]
  resources: ["events"]
  verbs: ["create"]
{{- if .Values.drains.enabled }}
# To watch QueueDrains, to create one where a QueueScaler asks for it (spec.emergencyDrain), to keep one by a finalizer
# while its run owns a workload, and to delete a finished one whose time to live is over.
- apiGroups: ["queuescaler.io"]
  resources: ["queuedrains"]
  verbs: ["list", "watch", "create", "patch", "delete"]
# To keep a QueueScaler by a finalizer while a run drains its backlog. It never changes its specification.
- apiGroups: ["queuescaler.io"]
  resources: ["queuescalers"]
  verbs: ["patch"]
# To write the plan and the journal of a drain.
- apiGroups: ["queuescaler.io"]
  resources: ["queuedrains/status"]
  verbs: ["patch"]
# To read the pod template of a workload whose drain is planned, and to create, watch over and delete the Deployment of
# the drain's pods, which is a copy of it. RBAC cannot limit `create` to a name.
- apiGroups: ["apps"]
  resources: ["deployments"]
  verbs: ["get", "create", "delete"]
# The same for a StatefulSet, which is only read.
- apiGroups: ["apps"]
  resources: ["statefulsets"]
  verbs: ["get"]
# To create, suspend and delete the Jobs that copy and verify. Their pods run the operator's image without a token.
- apiGroups: ["batch"]
  resources: ["jobs"]
  verbs: ["get", "create", "patch", "delete"]
# To read what the pods of these Jobs reported when they ended.
- apiGroups: [""]
  resources: ["pods"]
  verbs: ["list"]
{{- end }}
{{- range .Values.scaleTargets }}
# To scale the resources of scaleTargets. It reads their scale at each reconcile, and nothing else of them.
- apiGroups: {{ toJson .apiGroups }}
  resources: [{{ range $index, $resource := .resources }}{{ if $index }}, {{ end }}{{ printf "%s/scale" $resource | quote }}{{ end }}]
  verbs: ["get", "update"]
{{- end }}
{{- end -}}

{{/* The subjects of the role bindings. */}}
{{- define "queuescaler.subjects" -}}
- kind: ServiceAccount
  name: {{ include "queuescaler.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
