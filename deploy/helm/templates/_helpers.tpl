{{- define "kcr.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "kcr.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kcr.labels" -}}
{{ include "kcr.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "kcr.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{/* Settings of every process. Those in env win over the keys of the secret. */}}
{{- define "kcr.environment" -}}
env:
  - {name: KCR_DATA_DIR, value: /data/kcr}  # made by the process, for itself alone
  - {name: KCR_PUBLIC_URL, value: {{ .Values.publicUrl | quote }}}
  - {name: KCR_REGION, value: {{ .Values.region | quote }}}
  {{- with .Values.domain }}
  - {name: KCR_DOMAIN, value: {{ . | quote }}}
  {{- end }}
  {{- with .Values.trustedProxies }}
  - {name: KCR_TRUSTED_PROXIES, value: {{ join "," . | quote }}}
  {{- end }}
  {{- with .Values.storage.url }}
  - {name: KCR_STORAGE_URL, value: {{ . | quote }}}
  {{- end }}
  {{- range $name, $value := omit .Values.settings "KCR_ALLOWED_HOSTS" }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  - {name: KCR_ALLOWED_HOSTS, value: {{ list "localhost" "127.0.0.1" (get .Values.settings "KCR_ALLOWED_HOSTS" | default "") | compact | join "," | quote }}}
envFrom:
  - secretRef: {name: {{ .Values.existingSecret | quote }}}
{{- end }}

{{- define "kcr.podSecurity" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . | quote }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "kcr.containerSecurity" -}}
image: {{ include "kcr.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* /data holds blobs when a claim is given, and is otherwise a place of the pod's own. */}}
{{- define "kcr.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
- name: data
  {{- if .Values.storage.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.storage.existingClaim | quote }}}
  {{- else }}
  emptyDir: {sizeLimit: 2Gi}
  {{- end }}
{{- end }}

{{- define "kcr.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /data}
{{- end }}
