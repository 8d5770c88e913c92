{{/* Name of the chart, as the value of a label. */}}
{{- define "queuescaler.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the objects: short enough for a suffix within the 63 characters of a Service's name. */}}
{{- define "queuescaler.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/*
Name of cluster-wide objects. It contains the namespace, because a release in another namespace can have the same name.
Names of namespaces and releases have no colon and names of roles can, so that no two releases share it.
*/}}
{{- define "queuescaler.clusterWideName" -}}
{{- printf "%s:%s" .Release.Namespace (include "queuescaler.fullname" .) -}}
{{- end -}}

{{/* Labels that select the pods. A Deployment's selector cannot change, so they do not contain a version. */}}
{{- define "queuescaler.selectorLabels" -}}
app.kubernetes.io/name: {{ include "queuescaler.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "queuescaler.labels" -}}
{{ include "queuescaler.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "queuescaler.serviceAccountName" -}}
{{- $default := ternary (include "queuescaler.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $default .Values.serviceAccount.name -}}
{{- end -}}

{{/* The keys of Secrets that receivers of alerts name, each as a source of a projected volume. */}}
{{- define "queuescaler.receiverSecrets" -}}
{{- $refs := dict -}}
{{- range .Values.alerting.receivers -}}
{{- range . -}}
{{- if kindIs "map" . -}}
{{- range $field, $ref := . -}}
{{- if hasSuffix "SecretRef" $field -}}
{{- $_ := set $refs (printf "%s/%s" $ref.name $ref.key) $ref -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $path, $ref := $refs }}
- secret:
    name: {{ $ref.name }}
    # A Secret that is missing costs its receiver, and not the operator.
    optional: true
    items:
      - key: {{ $ref.key | quote }}
        path: {{ $path | quote }}
{{- end }}
{{- end -}}

{{- define "queuescaler.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}
{{- fail "image.repository is empty, and no image is published yet: build one with `docker build -t REGISTRY/queuescaler:TAG -f Containerfile .`, push it to a registry that your cluster can reach, and set `--set image.repository=REGISTRY/queuescaler --set image.tag=TAG`" -}}
{{- end -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Link to the runbook of an alert rule: the heading of docs/alerts.md with its name. Arguments: url, alert. */}}
{{- define "queuescaler.runbook" -}}
{{- printf "%s#%s" (trimSuffix "#" .url) (trimPrefix "QueueScaler" .alert | lower) -}}
{{- end -}}
