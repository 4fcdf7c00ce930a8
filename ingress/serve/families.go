package serve

import "svcplane/metrics"

// What the ingress counts. Labels of routes are those of objects: clients cannot make up series.
var (
	ofRoute    = []string{"namespace", "ingress", "host", "path", "service"}
	ofEndpoint = []string{"service", "endpoint"}

	requestsTotal = metrics.New(metrics.Counter, "svcplane_ingress_requests_total",
		"Requests by route and code; 499: the client went away.",
		append(ofRoute[:len(ofRoute):len(ofRoute)], "code")...)
	requestTime = metrics.New(metrics.Histogram, "svcplane_ingress_request_duration_seconds",
		"Time from the head of a request to the end of its answer.", ofRoute...)
	endpointTotal = metrics.New(metrics.Counter, "svcplane_ingress_endpoint_requests_total", "Requests by endpoint and code.",
		append(ofEndpoint[:len(ofEndpoint):len(ofEndpoint)], "code")...)
	endpointTime = metrics.New(metrics.Histogram, "svcplane_ingress_endpoint_duration_seconds",
		"The same by the endpoint that answered.", ofEndpoint...)
	connections  = metrics.New(metrics.Gauge, "svcplane_ingress_connections", "Open connections of clients.")
	refusedTotal = metrics.New(metrics.Counter, "svcplane_ingress_connections_refused_total",
		"Connections that were one too many.")
	slowTotal = metrics.New(metrics.Counter, "svcplane_ingress_slow_clients_total",
		"Requests that ended because the client was slower than --ingress-min-rate.", "ended")
)

// nginx declares a family of ingress-nginx, as its release 1.15 has it (internal/ingress/metric/collectors). The labels that
// its dashboards choose a controller by have one value each.
func nginx(kind metrics.Kind, name, help string, labels ...string) *metrics.Family {
	return metrics.New(kind, "nginx_ingress_controller_"+name, help, labels...).
		Fixed("controller_namespace", "kube-system", "controller_class", "svcplane.io/ingress", "controller_pod", "svcplane")
}

// What dashboards of ingress-nginx ask for.
var (
	ofRequest = []string{"namespace", "ingress", "host", "path", "service", "canary", "method", "status"}

	nginxRequests    = nginx(metrics.Counter, "requests", "Requests.", ofRequest...)
	nginxRequestTime = nginx(metrics.Histogram, "request_duration_seconds",
		"Time from the head of a request to the end of its answer.", ofRequest...)
	nginxResponseTime = nginx(metrics.Histogram, "response_duration_seconds",
		"The same for requests that an endpoint answered.", ofRequest...)
	nginxRequestSize  = nginx(metrics.Histogram, "request_size", "Octets of requests, with their heads.", ofRequest...)
	nginxResponseSize = nginx(metrics.Histogram, "response_size", "Octets of answers, with their heads.", ofRequest...)
	nginxBytesSent    = nginx(metrics.Histogram, "bytes_sent", "The same with other buckets; deprecated.", ofRequest...)

	nginxConnections = nginx(metrics.Gauge, "nginx_process_connections",
		"Open connections of clients: all, those with a request under way (writing), the others (waiting).", "state")
	nginxAccepted = nginx(metrics.Counter, "nginx_process_connections_total",
		"Connections of clients that were accepted, and those of them that were served (handled).", "state")

	nginxHash     = nginx(metrics.Gauge, "config_hash", "Number of the routing table in force.")
	nginxReloaded = nginx(metrics.Gauge, "config_last_reload_successful", "1: a routing table is in force.")
	nginxWhen     = nginx(metrics.Gauge, "config_last_reload_successful_timestamp_seconds",
		"When the routing table in force was made.")
	nginxSuccess = nginx(metrics.Counter, "success", "Routing tables that were put into force.")
	nginxExpires = metrics.New(metrics.Gauge, "nginx_ingress_controller_ssl_expire_time_seconds",
		"When the certificate of a host expires, in Unix time.",
		"namespace", "host", "secret_name", "identifier").Fixed("class", "svcplane.io/ingress")
)

// Families are all that the ingress collects.
func Families() []*metrics.Family {
	return []*metrics.Family{
		requestsTotal, requestTime, endpointTotal, endpointTime, connections, refusedTotal, slowTotal,
		nginxRequests, nginxRequestTime, nginxResponseTime, nginxRequestSize, nginxResponseSize, nginxBytesSent,
		nginxConnections, nginxAccepted, nginxHash, nginxReloaded, nginxWhen, nginxSuccess, nginxExpires,
	}
}
