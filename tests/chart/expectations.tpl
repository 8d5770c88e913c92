{{- /*
Lists the rules in files/rules.yaml, and what the tests in files/*.test.yaml expect of them, for tests/chart/run:

  rule ALERT
  fires TEST TIME ALERT
  empty TEST TIME ALERT    no such alert fires; * stands for all alerts

Helm reads the YAML, so that it does not matter in which style it is written.
*/ -}}
lines: |
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups }}
{{- range .rules }}
  rule {{ .alert }}
{{- end }}
{{- end }}
{{- range $path, $_ := .Files.Glob "files/*.test.yaml" }}
{{- range $number, $test := ($.Files.Get $path | fromYaml).tests }}
{{- $where := printf "%s:%d" (base $path) $number }}
{{- range $test.alert_rule_test }}
  {{ if .exp_alerts }}fires{{ else }}empty{{ end }} {{ $where }} {{ .eval_time }} {{ .alertname }}
{{- end }}
{{- range $expected := $test.promql_expr_test }}
{{- range .exp_samples }}
{{- if contains "alertstate=\"firing\"" .labels }}
  fires {{ $where }} {{ $expected.eval_time }} {{ regexReplaceAll ".*alertname=\"(\\w+)\".*" .labels "${1}" }}
{{- end }}
{{- else }}
{{- if regexMatch "^ALERTS{(alertname=\"\\w+\", *)?alertstate=\"firing\"}$" .expr }}
  empty {{ $where }} {{ .eval_time }} {{ regexFind "alertname=\"\\w+" .expr | trimPrefix "alertname=\"" | default "*" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
