{{/*
What the operator may do where it serves QueueScalers. docs/security.md repeats this list with more words.
Every rule names its resources, and none has a wildcard: tests/chart/run refuses one.
*/}}
{{- define "queuescaler.rules" -}}
# The objects to serve. They are never changed.
- apiGroups: ["queuescaler.io"]
  resources: ["queuescalers"]
  verbs: ["list", "watch"]
# To report what was seen and decided.
- apiGroups: ["queuescaler.io"]
  resources: ["queuescalers/status"]
  verbs: ["patch"]
# To see the workloads' pods become ready, and their rollouts.
- apiGroups: ["apps"]
  resources: ["deployments", "statefulsets"]
  verbs: ["list", "watch"]
# To scale. The workloads themselves stay out of reach: their pods' images, commands and secrets cannot be changed.
- apiGroups: ["apps"]
  resources: ["deployments/scale", "statefulsets/scale"]
  verbs: ["get", "update"]
# To stay away from workloads that another autoscaler scales.
- apiGroups: ["autoscaling"]
  resources: ["horizontalpodautoscalers"]
  verbs: ["list", "watch"]
# To read the credentials that a QueueScaler names, one by one: there is no right to list them.
- apiGroups: [""]
  resources: ["secrets"]
  verbs: ["get"]
# To tell what happened: each scaling and each turn of a condition.
- apiGroups: ["events.k8s.io"]
  resources: ["events"]
  verbs: ["create"]
{{- range .Values.scaleTargets }}
# To scale what scaleTargets names. Their scale is read at each visit, and nothing else of them.
- apiGroups: {{ toJson .apiGroups }}
  resources: [{{ range $index, $resource := .resources }}{{ if $index }}, {{ end }}{{ printf "%s/scale" $resource | quote }}{{ end }}]
  verbs: ["get", "update"]
{{- end }}
{{- end -}}

{{/* Whom the roles are bound to. */}}
{{- define "queuescaler.subjects" -}}
- kind: ServiceAccount
  name: {{ include "queuescaler.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
