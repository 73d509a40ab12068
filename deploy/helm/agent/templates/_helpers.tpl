{{- define "mk8s-agent.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of objects that are in no namespace: agents in several namespaces do not share them. */}}
{{- define "mk8s-agent.clusterwide" -}}
{{ .Release.Namespace }}:{{ include "mk8s-agent.fullname" . }}
{{- end -}}

{{- define "mk8s-agent.selector" -}}
app.kubernetes.io/name: mk8s-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mk8s-agent.labels" -}}
{{ include "mk8s-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "mk8s-agent.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret that the join token comes from. */}}
{{- define "mk8s-agent.joinSecret" -}}
{{- .Values.join.existingSecret | default (printf "%s-join" (include "mk8s-agent.fullname" .)) -}}
{{- end -}}
