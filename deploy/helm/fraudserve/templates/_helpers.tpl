{{- define "fraudserve.name" -}}
{{- if contains "fraudserve" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-fraudserve" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* labels that select pods; {root, part} */}}
{{- define "fraudserve.selector" -}}
app.kubernetes.io/name: fraudserve
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "fraudserve.match" -}}
{{ include "fraudserve.selector" . | fromYaml | toJson }}
{{- end }}

{{- define "fraudserve.labels" -}}
{{ include "fraudserve.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.region }}
fraudserve/region: {{ . }}
{{- end }}
{{- end }}

{{/* an image by digest; {root, name} */}}
{{- define "fraudserve.image" -}}
{{- $image := index .root.Values.images .name -}}
{{- if not $image.digest }}{{ fail (printf "images.%s.digest is missing: images go by digest, as sha256:… (docs/production.md)" .name) }}{{ end -}}
{{- with .root.Values.images.registry }}{{ . }}/{{ end }}{{ $image.repository }}@{{ $image.digest }}
{{- end }}

{{- define "fraudserve.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "fraudserve.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1000
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* what every pod has; {root, part} */}}
{{- define "fraudserve.podCommon" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "fraudserve.podSecurity" . | nindent 2 }}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ .root.Values.spread.zones }}
    labelSelector: {matchLabels: {{ include "fraudserve.match" . }} }
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ .root.Values.spread.nodes }}
    labelSelector: {matchLabels: {{ include "fraudserve.match" . }} }
{{- end }}

{{/* the window store's URL, without a password in it */}}
{{- define "fraudserve.store" -}}
{{- $redis := .Values.redis -}}
{{- $url := $redis.url -}}
{{- if eq $redis.mode "embedded" }}{{ $url = printf "redis://%s-redis:6379" (include "fraudserve.name" .) }}{{ end -}}
{{- if not $url }}{{ fail "redis.url is missing: give the URL of a Redis, without a password (docs/window-stores.md), or redis.mode: embedded to try things" }}{{ end -}}
{{- if regexMatch "://[^/]*:[^/]*@" $url }}{{ fail "redis.url has a password in it, which every list of pods would show: put the password into redis.passwordSecret" }}{{ end -}}
{{- $options := list -}}
{{- if $redis.passwordSecret }}{{ $options = append $options "password_file=/etc/fraudserve/redis/password" }}{{ end -}}
{{- if $redis.caSecret }}{{ $options = append $options "ca=/etc/fraudserve/redis-ca/ca.crt" }}{{ end -}}
{{- $join := ternary "&" "?" (contains "?" $url) -}}
{{ $url }}{{ with $options }}{{ $join }}{{ join "&" . }}{{ end }}
{{- end }}

{{/* where releases are fetched from */}}
{{- define "fraudserve.source" -}}
{{- if .Values.releases.image.digest }}folder:///releases
{{- else if .Values.releases.source }}{{ .Values.releases.source }}
{{- else }}{{ fail "releases.source is missing: give s3://bucket/prefix, or releases.image with a digest" }}{{ end -}}
{{- end }}
