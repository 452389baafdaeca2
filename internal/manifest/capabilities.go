package manifest

import (
	"maps"
	"slices"
	"strings"

	"github.com/serin-dev/serin/internal/strictyaml"
)

// support says what becomes of a field.
type support uint8

const (
	used    support = iota + 1 // read by this package, with everything below it
	noted                      // harmless on one machine, no effect: said once
	refused                    // would not do what it says: refused by name
	silent                     // says what is so anyway, or is the cluster's own bookkeeping
)

// capability is one line of the table. Values, where given, are the only ones
// that it holds for; others are refused. Why says, of what is used, how it is
// meant here, where that needs saying.
type capability struct {
	how    support
	why    string
	values []string
}

const (
	keepApart     = "remove it, or keep it in a file that only the cluster reads"
	gatewayCannot = "the gateway of one machine does not do this; " + keepApart
	processCannot = "a process on this machine has no such thing; " + keepApart
	noScheduler   = "there is one machine and no scheduler"
	noKubelet     = "processes are not limited or isolated here"
)

// capabilities is the whole of what is understood, by kind and field. A "[]"
// stands for any element, "*" for any name. What is not in it is refused as
// unknown. To teach the gateway something new, change its line to used and
// decode it in objects.go.
var capabilities = map[string]map[string]capability{
	"Deployment":      merge(metadata, deployment),
	"Service":         merge(metadata, service),
	"DestinationRule": merge(metadata, destinationRule),
	"VirtualService":  merge(metadata, virtualService),
}

// ignoredKinds may stand in the folder and have no effect on one machine.
var ignoredKinds = map[string]string{
	"ConfigMap":                "is not given to processes; a Deployment that refers to it is refused",
	"CustomResourceDefinition": "one machine has no API server",
	"Gateway":                  "the gateway listens where serin up says",
	"HorizontalPodAutoscaler":  "replicas are as many as the Deployment says",
	"Namespace":                "names are kept apart by namespace, nothing is created",
	"NetworkPolicy":            "processes are not isolated here",
	"PeerAuthentication":       "traffic does not leave this machine",
	"PodDisruptionBudget":      "there is no eviction here",
	"PodMonitor":               "the gateway counts by itself",
	"Role":                     "one machine has no API server",
	"RoleBinding":              "one machine has no API server",
	"Secret":                   "is not given to processes; a Deployment that refers to it is refused",
	"ServiceAccount":           "processes run as the user who started serin",
	"ServiceMonitor":           "the gateway counts by itself",
}

var metadata = map[string]capability{
	"apiVersion":                          {how: used},
	"kind":                                {how: used},
	"metadata.name":                       {how: used},
	"metadata.namespace":                  {how: used},
	"metadata.labels":                     {how: noted, why: "nothing selects objects by their labels here"},
	"metadata.annotations":                {how: noted, why: "nobody reads them here"},
	"metadata.finalizers":                 {how: noted, why: "nothing is deleted here"},
	"metadata.ownerReferences":            {how: noted, why: "nothing is collected here"},
	"metadata.creationTimestamp":          {how: silent},
	"metadata.deletionGracePeriodSeconds": {how: silent},
	"metadata.deletionTimestamp":          {how: silent},
	"metadata.generation":                 {how: silent},
	"metadata.managedFields":              {how: silent},
	"metadata.resourceVersion":            {how: silent},
	"metadata.selfLink":                   {how: silent},
	"metadata.uid":                        {how: silent},
	"status":                              {how: silent},
}

var deployment = merge(map[string]capability{
	"spec.replicas":                            {how: used},
	"spec.selector.matchLabels":                {how: used},
	"spec.selector.matchExpressions":           {how: refused, why: "only matchLabels is read here"},
	"spec.strategy":                            {how: noted, why: "a rollout replaces versions, not pods one by one"},
	"spec.minReadySeconds":                     {how: noted, why: "a step's hold does this for the version"},
	"spec.revisionHistoryLimit":                {how: noted, why: "there are no ReplicaSets here"},
	"spec.progressDeadlineSeconds":             {how: noted, why: "the Rollout's capacity.deadline counts"},
	"spec.paused":                              {how: noted, why: "a Rollout pauses with spec.suspend"},
	"spec.template.metadata.labels":            {how: used},
	"spec.template.metadata.annotations":       {how: noted, why: "nobody reads them here; they are part of the revision"},
	"spec.template.metadata.name":              {how: silent},
	"spec.template.metadata.creationTimestamp": {how: silent},
}, under("spec.template.spec.", podSpec), under("spec.template.spec.containers[].", container))

var podSpec = map[string]capability{
	"terminationGracePeriodSeconds": {how: used},
	"initContainers":                {how: refused, why: processCannot},
	"ephemeralContainers":           {how: refused, why: processCannot},
	"volumes":                       {how: refused, why: "a process sees this machine's files, not volumes; remove it and give the path in the command or env"},
	"hostAliases":                   {how: refused, why: processCannot},
	"dnsConfig":                     {how: refused, why: processCannot},
	"resourceClaims":                {how: refused, why: processCannot},
	"activeDeadlineSeconds":         {how: refused, why: processCannot},
	"readinessGates":                {how: refused, why: "readiness is the container's readinessProbe here"},
	"restartPolicy":                 {how: silent, values: []string{"Always"}},
	"affinity":                      {how: noted, why: noScheduler},
	"nodeSelector":                  {how: noted, why: noScheduler},
	"nodeName":                      {how: noted, why: noScheduler},
	"tolerations":                   {how: noted, why: noScheduler},
	"topologySpreadConstraints":     {how: noted, why: noScheduler},
	"schedulerName":                 {how: noted, why: noScheduler},
	"schedulingGates":               {how: noted, why: noScheduler},
	"priorityClassName":             {how: noted, why: noScheduler},
	"priority":                      {how: noted, why: noScheduler},
	"preemptionPolicy":              {how: noted, why: noScheduler},
	"runtimeClassName":              {how: noted, why: noKubelet},
	"overhead":                      {how: noted, why: noKubelet},
	"resources":                     {how: noted, why: noKubelet},
	"os":                            {how: noted, why: noScheduler},
	"dnsPolicy":                     {how: noted, why: "names are resolved as this machine does"},
	"hostname":                      {how: noted, why: "processes share this machine's name"},
	"subdomain":                     {how: noted, why: "processes share this machine's name"},
	"setHostnameAsFQDN":             {how: noted, why: "processes share this machine's name"},
	"hostNetwork":                   {how: noted, why: "processes share this machine's network"},
	"hostPID":                       {how: noted, why: "processes share this machine's process table"},
	"hostIPC":                       {how: noted, why: "processes share this machine's memory"},
	"hostUsers":                     {how: noted, why: noKubelet},
	"shareProcessNamespace":         {how: noted, why: noKubelet},
	"enableServiceLinks":            {how: noted, why: "no variables are made from Services"},
	"serviceAccount":                {how: noted, why: "processes run as the user who started serin"},
	"serviceAccountName":            {how: noted, why: "processes run as the user who started serin"},
	"automountServiceAccountToken":  {how: noted, why: "processes run as the user who started serin"},
	"securityContext":               {how: noted, why: "processes run as the user who started serin"},
	"imagePullSecrets":              {how: noted, why: "nothing is pulled"},
}

var container = merge(map[string]capability{
	"name":                     {how: used},
	"image":                    {how: used},
	"command":                  {how: used},
	"args":                     {how: used},
	"workingDir":               {how: used},
	"env[].name":               {how: used},
	"env[].value":              {how: used},
	"env[].valueFrom":          {how: refused, why: "there is no API server to take the value from; give it as value"},
	"envFrom":                  {how: refused, why: "there is no API server to take the values from; give them in env"},
	"ports[].name":             {how: used},
	"ports[].containerPort":    {how: used},
	"ports[].protocol":         {how: silent, values: []string{"TCP"}},
	"ports[].hostPort":         {how: refused, why: "each replica gets a port of its own in $PORT; the gateway is the only one with a fixed address"},
	"ports[].hostIP":           {how: refused, why: "replicas listen on 127.0.0.1"},
	"resources":                {how: noted, why: noKubelet},
	"resizePolicy":             {how: noted, why: noKubelet},
	"imagePullPolicy":          {how: noted, why: "nothing is pulled"},
	"securityContext":          {how: noted, why: "processes run as the user who started serin"},
	"livenessProbe":            {how: noted, why: "a process that ends is started again; one that hangs is found by readiness only"},
	"startupProbe":             {how: noted, why: "the readiness probe decides when a replica gets traffic"},
	"lifecycle":                {how: noted, why: "the gateway lets requests end before a process is told to stop"},
	"terminationMessagePath":   {how: noted, why: "the log is kept instead"},
	"terminationMessagePolicy": {how: noted, why: "the log is kept instead"},
	"stdin":                    {how: noted, why: "a process here has no input"},
	"stdinOnce":                {how: noted, why: "a process here has no input"},
	"tty":                      {how: noted, why: "a process here has no terminal"},
	"volumeMounts":             {how: refused, why: "a process sees this machine's files, not volumes; remove it and give the path in the command or env"},
	"volumeDevices":            {how: refused, why: processCannot},
	"restartPolicy":            {how: refused, why: processCannot},
}, under("readinessProbe.", probe))

var probe = map[string]capability{
	"httpGet.path":                  {how: used},
	"httpGet.port":                  {how: used},
	"httpGet.scheme":                {how: used},
	"httpGet.httpHeaders[].name":    {how: used},
	"httpGet.httpHeaders[].value":   {how: used},
	"httpGet.host":                  {how: refused, why: "replicas are asked on 127.0.0.1; remove it"},
	"tcpSocket.port":                {how: used},
	"tcpSocket.host":                {how: refused, why: "replicas are asked on 127.0.0.1; remove it"},
	"exec":                          {how: refused, why: "readiness is asked by httpGet or tcpSocket here"},
	"grpc":                          {how: refused, why: "readiness is asked by httpGet or tcpSocket here"},
	"initialDelaySeconds":           {how: used},
	"periodSeconds":                 {how: used},
	"timeoutSeconds":                {how: used},
	"successThreshold":              {how: used},
	"failureThreshold":              {how: used},
	"terminationGracePeriodSeconds": {how: noted, why: "a replica that is not ready is not ended"},
}

var service = map[string]capability{
	"spec.selector":           {how: used},
	"spec.ports[].name":       {how: used},
	"spec.ports[].port":       {how: used},
	"spec.ports[].targetPort": {how: used},
	"spec.ports[].protocol":   {how: silent, values: []string{"TCP"}},
	"spec.ports[].appProtocol": {how: used, why: "http2, grpc and kubernetes.io/h2c: pods are spoken to in HTTP/2; so are those of a port whose name begins with http2 or grpc",
		values: []string{"http", "http2", "grpc", "kubernetes.io/h2c"}},
	"spec.ports[].nodePort":              {how: noted, why: "the gateway listens where serin up says"},
	"spec.type":                          {how: silent, values: []string{"ClusterIP", "NodePort", "LoadBalancer"}},
	"spec.externalName":                  {how: refused, why: gatewayCannot},
	"spec.externalIPs":                   {how: refused, why: gatewayCannot},
	"spec.clusterIP":                     {how: noted, why: "there are no cluster addresses here"},
	"spec.clusterIPs":                    {how: noted, why: "there are no cluster addresses here"},
	"spec.ipFamilies":                    {how: noted, why: "there are no cluster addresses here"},
	"spec.ipFamilyPolicy":                {how: noted, why: "there are no cluster addresses here"},
	"spec.internalTrafficPolicy":         {how: noted, why: noScheduler},
	"spec.externalTrafficPolicy":         {how: noted, why: noScheduler},
	"spec.trafficDistribution":           {how: noted, why: noScheduler},
	"spec.allocateLoadBalancerNodePorts": {how: noted, why: "the gateway listens where serin up says"},
	"spec.loadBalancerClass":             {how: noted, why: "the gateway listens where serin up says"},
	"spec.loadBalancerSourceRanges":      {how: refused, why: gatewayCannot},
	"spec.healthCheckNodePort":           {how: noted, why: "the gateway listens where serin up says"},
	"spec.publishNotReadyAddresses":      {how: refused, why: "only ready replicas get traffic here; remove it"},
	"spec.sessionAffinity":               {how: silent, values: []string{"None"}},
	"spec.sessionAffinityConfig":         {how: refused, why: gatewayCannot},
}

var destinationRule = merge(map[string]capability{
	"spec.host":             {how: used},
	"spec.subsets[].name":   {how: used},
	"spec.subsets[].labels": {how: used},
	"spec.subsets[].trafficPolicy.loadBalancer.consistentHash": {how: refused, why: "a user's version is chosen by it, so it holds for all versions: give it in spec.trafficPolicy"},
	"spec.exportTo":         {how: noted, why: "there is no mesh to export to"},
	"spec.workloadSelector": {how: refused, why: gatewayCannot},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpHeaderName":         {how: used, why: "a user, known by this header, stays on one version, and on one replica of it; raising a weight only moves users to that version"},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name":        {how: used, why: "as httpHeaderName, by a cookie"},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.path":        {how: used, why: "of the cookie that the gateway sets"},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.ttl":         {how: used, why: "where it is given the gateway sets the cookie itself, signed; 0s: until the browser is closed"},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes":  {how: refused, why: gatewayCannot},
	"spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp":            {how: refused, why: "users behind one address would be one user; give httpHeaderName or httpCookie"},
	"spec.trafficPolicy.loadBalancer.consistentHash.httpQueryParameterName": {how: refused, why: gatewayCannot},
	"spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize":        {how: noted, why: "there is no ring: every replica draws for every user"},
	"spec.trafficPolicy.loadBalancer.consistentHash.ringHash":               {how: noted, why: "there is no ring: every replica draws for every user"},
	"spec.trafficPolicy.loadBalancer.consistentHash.maglev":                 {how: noted, why: "there is no table: every replica draws for every user"},
	"spec.trafficPolicy.connectionPool.http.h2UpgradePolicy":                {how: used, why: "UPGRADE: pods are spoken to in HTTP/2", values: []string{"DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"}},
	"spec.trafficPolicy.portLevelSettings":                                  {how: refused, why: gatewayCannot},
}, under("spec.trafficPolicy.", trafficPolicy), under("spec.subsets[].trafficPolicy.", trafficPolicy))

const (
	ownPool   = "the gateway keeps connections to replicas for 4 s of rest"
	ownConnec = "connections to replicas do not leave this machine"
)

var trafficPolicy = map[string]capability{
	"tls.mode": {how: noted, why: "traffic does not leave this machine", values: []string{"ISTIO_MUTUAL", "DISABLE"}},
	"loadBalancer.simple": {how: noted, why: "the replica with the fewest requests is taken",
		values: []string{"ROUND_ROBIN", "RANDOM", "LEAST_REQUEST", "LEAST_CONN", "UNSPECIFIED"}},
	"loadBalancer.localityLbSetting":  {how: noted, why: noScheduler},
	"loadBalancer.warmup":             {how: refused, why: gatewayCannot},
	"loadBalancer.warmupDurationSecs": {how: refused, why: gatewayCannot},

	"connectionPool.tcp.maxConnections":            {how: used, why: "requests in flight of a version at one time (over HTTP/1.1 a connection is one). What is over it goes to the stable version, if that has room; else it waits"},
	"connectionPool.http.http1MaxPendingRequests":  {how: used, why: "how many may wait; what is more is answered with 503"},
	"connectionPool.http.http2MaxRequests":         {how: used, why: "requests in flight of a version at one time; none waits unless http1MaxPendingRequests says so"},
	"connectionPool.tcp.connectTimeout":            {how: noted, why: ownConnec},
	"connectionPool.tcp.tcpKeepalive":              {how: noted, why: ownConnec},
	"connectionPool.tcp.maxConnectionDuration":     {how: noted, why: ownPool},
	"connectionPool.tcp.idleTimeout":               {how: noted, why: ownPool},
	"connectionPool.http.idleTimeout":              {how: noted, why: ownPool},
	"connectionPool.http.maxRequestsPerConnection": {how: noted, why: ownPool},
	"connectionPool.http.maxRetries":               {how: refused, why: gatewayCannot},
	"connectionPool.http.maxConcurrentStreams":     {how: refused, why: gatewayCannot},
	"connectionPool.http.useClientProtocol":        {how: refused, why: gatewayCannot},
	"outlierDetection":                             {how: refused, why: gatewayCannot},
	"portLevelSettings":                            {how: refused, why: gatewayCannot},
	"tunnel":                                       {how: refused, why: gatewayCannot},
	"proxyProtocol":                                {how: refused, why: gatewayCannot},
	"retryBudget":                                  {how: refused, why: gatewayCannot},
}

var virtualService = merge(map[string]capability{
	"spec.hosts":                             {how: used, why: "whole names, and * alone; several VirtualServices share one listener"},
	"spec.gateways":                          {how: noted, why: "the gateway listens where serin up says"},
	"spec.exportTo":                          {how: noted, why: "there is no mesh to export to"},
	"spec.tcp":                               {how: refused, why: gatewayCannot},
	"spec.tls":                               {how: refused, why: gatewayCannot},
	"spec.http[].name":                       {how: used},
	"spec.http[].route[].destination.host":   {how: used, why: "one application for each VirtualService: its Service, or, where its Rollout names no destinationRule, the Services of its versions"},
	"spec.http[].route[].destination.subset": {how: used},
	"spec.http[].route[].destination.port.number":   {how: used, why: "one port of the Service"},
	"spec.http[].route[].weight":                    {how: used, why: "exact in every block of 100 requests (1,000 for tenths of a per cent, 10,000 for hundredths)"},
	"spec.http[].route[].headers":                   {how: refused, why: "headers are changed for a whole rule here: give them in http[].headers"},
	"spec.http[].timeout":                           {how: used, why: "from the request's head to the end of its answer; 504 where no answer was begun, cut otherwise"},
	"spec.http[].retries.attempts":                  {how: used, why: "at most 10; GET, HEAD, OPTIONS, TRACE, PUT and DELETE without a body alone, within the version; each failed attempt counts as a failure of that version"},
	"spec.http[].retries.perTryTimeout":             {how: used, why: "until the head of the answer"},
	"spec.http[].retries.retryOn":                   {how: used, why: "5xx, or what gets no answer: connect-failure, refused-stream, reset, reset-before-request (not told apart, and the default)"},
	"spec.http[].retries.retryRemoteLocalities":     {how: noted, why: noScheduler},
	"spec.http[].retries.retryIgnorePreviousHosts":  {how: noted, why: "another replica is taken where there is one"},
	"spec.http[].retries.backoff":                   {how: refused, why: gatewayCannot},
	"spec.http[].rewrite.uri":                       {how: used, why: "replaces the prefix that was matched; the whole path where exact or regex was"},
	"spec.http[].rewrite.authority":                 {how: used},
	"spec.http[].rewrite.uriRegexRewrite":           {how: refused, why: gatewayCannot},
	"spec.http[].mirror.host":                       {how: used, why: "the Service of the route; copies are never awaited, at most 64 are under way, bodies of more than 16 KiB or unknown length are not copied, the Host has -shadow at its end, and no copy counts as evidence"},
	"spec.http[].mirror.subset":                     {how: used},
	"spec.http[].mirror.port.number":                {how: used, why: "the port of the route"},
	"spec.http[].mirrorPercentage.value":            {how: used, why: "without it everything is copied"},
	"spec.http[].mirrors[].destination.host":        {how: used, why: "as mirror.host"},
	"spec.http[].mirrors[].destination.subset":      {how: used},
	"spec.http[].mirrors[].destination.port.number": {how: used, why: "the port of the route"},
	"spec.http[].mirrors[].percentage.value":        {how: used},
	"spec.http[].mirrorPercent":                     {how: refused, why: "is deprecated: give mirrorPercentage: {value: N}"},
	"spec.http[].mirror_percent":                    {how: refused, why: "is deprecated: give mirrorPercentage: {value: N}"},
	"spec.http[].headers.request.set.*":             {how: used, why: "values as they stand: %...% is refused, %% is a per cent sign; not Host (rewrite.authority changes it) nor what the gateway sets"},
	"spec.http[].headers.request.add.*":             {how: used},
	"spec.http[].headers.request.remove":            {how: used},
	"spec.http[].headers.response.set.*":            {how: used},
	"spec.http[].headers.response.add.*":            {how: used},
	"spec.http[].headers.response.remove":           {how: used},
	"spec.http[].redirect":                          {how: refused, why: gatewayCannot},
	"spec.http[].directResponse":                    {how: refused, why: gatewayCannot},
	"spec.http[].delegate":                          {how: refused, why: gatewayCannot},
	"spec.http[].fault":                             {how: refused, why: gatewayCannot},
	"spec.http[].corsPolicy":                        {how: refused, why: gatewayCannot},
}, under("spec.http[].match[].", map[string]capability{
	"name":             {how: used},
	"uri.exact":        {how: used, why: "the path as it was sent, without the query"},
	"uri.prefix":       {how: used},
	"uri.regex":        {how: used, why: "RE2, the whole path"},
	"method.exact":     {how: used},
	"method.prefix":    {how: refused, why: "a method is matched exactly here; write one match for each"},
	"method.regex":     {how: refused, why: "a method is matched exactly here; write one match for each"},
	"scheme.exact":     {how: used, why: "of the client's connection: http or https"},
	"scheme.prefix":    {how: refused, why: "a scheme is matched exactly here"},
	"scheme.regex":     {how: refused, why: "a scheme is matched exactly here"},
	"headers.*":        {how: used, why: "exact, prefix, regex, or nothing: it is there; several values of one name are joined by a comma; headers with _ in their name are dropped, so a condition on one is refused"},
	"withoutHeaders.*": {how: used, why: "the request does not match if one of these does"},
	"queryParams.*":    {how: used, why: "of a parameter that is there twice the first counts"},
	"ignoreUriCase":    {how: used, why: "of exact and prefix"},
	"authority":        {how: refused, why: "hosts are matched by spec.hosts here"},
	"port":             {how: refused, why: gatewayCannot},
	"sourceLabels":     {how: refused, why: "the gateway does not know which workload calls; remove it"},
	"sourceNamespace":  {how: refused, why: "the gateway does not know which workload calls; remove it"},
	"gateways":         {how: refused, why: gatewayCannot},
	"statPrefix":       {how: noted, why: "figures are by version here"},
}))

func merge(tables ...map[string]capability) map[string]capability {
	all := map[string]capability{}
	for _, t := range tables {
		for k, v := range t {
			all[k] = v
		}
	}
	return all
}

func under(prefix string, t map[string]capability) map[string]capability {
	moved := map[string]capability{}
	for k, v := range t {
		moved[prefix+k] = v
	}
	return moved
}

// lookup gives the line for a field. A parent of lines is known and has the
// zero capability.
func lookup(table map[string]capability, f strictyaml.Field) (c capability, known bool) {
	if c, ok := table[f.Pattern]; ok {
		return c, true
	}
	if f.Key != "" {
		if c, ok := table[strings.TrimSuffix(f.Pattern, f.Key)+"*"]; ok {
			return c, true
		}
	}
	for k := range table {
		if rest, ok := strings.CutPrefix(k, f.Pattern); ok && (rest[0] == '.' || rest[0] == '[') {
			return capability{}, true
		}
	}
	return capability{}, false
}

// siblings lists the names that the table knows beside a field, in order.
func siblings(table map[string]capability, f strictyaml.Field) []string {
	above := strings.TrimSuffix(f.Pattern, f.Key)
	names := map[string]bool{}
	for k := range table {
		if rest, ok := strings.CutPrefix(k, above); ok {
			name, _, _ := strings.Cut(rest, ".")
			names[strings.TrimSuffix(name, "[]")] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
