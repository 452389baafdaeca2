{{- define "serin.labels" -}}
app.kubernetes.io/name: serin
app.kubernetes.io/component: controller
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "serin.selector" -}}
app.kubernetes.io/name: serin
app.kubernetes.io/component: controller
{{- end }}

{{- define "serin.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* The name under which the API server knows the controller. */ -}}
{{- define "serin.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.serviceAccount.name }}
{{- end }}

{{- /* Cluster-scoped objects carry the namespace where it is not the usual one: two releases do not share them. */ -}}
{{- define "serin.cluster-name" -}}
{{- if eq .Release.Namespace "serin-system" -}}serin{{- else -}}serin-{{ .Release.Namespace }}{{- end -}}
{{- end }}
