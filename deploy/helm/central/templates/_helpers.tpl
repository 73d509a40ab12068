{{- define "mk8s-central.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mk8s-central.selector" -}}
app.kubernetes.io/name: mk8s-central
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mk8s-central.labels" -}}
{{ include "mk8s-central.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "mk8s-central.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}


{{/* What `init` and `serve` have in common. */}}
{{- define "mk8s-central.container" -}}
image: {{ include "mk8s-central.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: MK8S_CONFIG
    value: /etc/mk8s/config/central.yaml
  {{- if .Values.database.existingSecret }}
  - name: MK8S_DATABASE_URL
    valueFrom:
      secretKeyRef:
        name: {{ .Values.database.existingSecret }}
        key: {{ .Values.database.key }}
  {{- end }}
  {{- if .Values.secretKey.existingSecret }}
  - name: MK8S_SECRETS_KEY
    valueFrom:
      secretKeyRef:
        name: {{ .Values.secretKey.existingSecret }}
        key: {{ .Values.secretKey.key }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end -}}

{{- define "mk8s-central.mounts" -}}
- name: data
  mountPath: /var/lib/mk8s
- name: memory
  mountPath: /tmp
- name: config
  mountPath: /etc/mk8s/config
{{- if .Values.tls.existingSecret }}
- name: tls
  mountPath: /etc/mk8s/tls
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
