{{/* asks the golden vectors; the argument says of whom */}}
{{- define "fraudserve.health" -}}
[fraudctl, health, --repository, /models, --url, "127.0.0.1:8001", --timeout, "5", {{ . }}]
{{- end }}

{{- define "fraudserve.redisMounts" -}}
{{- if .Values.redis.passwordSecret }}
- {name: redis-password, mountPath: /etc/fraudserve/redis, readOnly: true}
{{- end }}
{{- if .Values.redis.caSecret }}
- {name: redis-ca, mountPath: /etc/fraudserve/redis-ca, readOnly: true}
{{- end }}
{{- end }}

{{/* brings releases and route table into /models; {root, name, once} */}}
{{- define "fraudserve.follower" -}}
- name: {{ .name }}
  image: {{ include "fraudserve.image" (dict "root" .root "name" "tools") }}
  {{- if not .once }}
  restartPolicy: Always
  {{- end }}
  args: [routes, follow, --table, /routes/routes.json, --from, {{ include "fraudserve.source" .root | quote }}, --repository, /models, --home, /data, {{ ternary "--once" "--url=127.0.0.1:8001" .once }}]
  env:
    - {name: FRAUD_RELEASE_KEY, value: /etc/fraudserve/release-key/release.pub}
    {{- with .root.Values.releases.s3.region }}
    - {name: AWS_REGION, value: {{ . }} }
    {{- end }}
    {{- with .root.Values.releases.s3.endpoint }}
    - {name: AWS_ENDPOINT_URL_S3, value: {{ . }} }
    {{- end }}
  securityContext: {{- include "fraudserve.containerSecurity" .root | nindent 4 }}
  resources: {{- toYaml .root.Values.releases.resources | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models}
    - {name: data, mountPath: /data, subPath: releases}
    - {name: tmp, mountPath: /tmp, subPath: {{ .name }} }
    - {name: release-key, mountPath: /etc/fraudserve/release-key, readOnly: true}
    - {name: route-table, mountPath: /routes, readOnly: true}
    {{- if .root.Values.releases.image.digest }}
    - {name: releases, mountPath: /releases, readOnly: true}
    {{- end }}
{{- end }}
