package ingress

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	networkingv1 "k8s.io/api/networking/v1"

	"svcplane/metrics/metricstest"
)

// TestMetricsOfNginx: what dashboards of ingress-nginx ask for, on every way that a request takes.
func TestMetricsOfNginx(t *testing.T) {
	w := wireWorld(t, func(*Config) {})
	for _, way := range wireWays {
		if code, body := way.send(w, way.host("toad"), "/"); code != 200 {
			t.Fatalf("%v: %d %s", way, code, body)
		}
	}
	w.get("toad", "/admin")
	w.get("nobody", "/")
	const name = "nginx_ingress_controller_"
	route := []string{"namespace=default", "ingress=open", "host=toad", "path=/", "service=toad", "canary=", "method=GET", "status=200", "controller_class=svcplane.io/ingress"}
	closed := []string{"ingress=closed", "host=toad", "path=/admin", "status=403"}
	var all metricstest.Set
	w.eventually(func() error { // the last answer is counted after it was read
		all = metricstest.Gather(t, w.ingress.Collector())
		for _, labels := range [][]string{closed, {"host=_", "status=404", "namespace="}, {"host=grpc-toad", "status=200"}} {
			if n := all.Value(t, name+"requests", labels...); n != 1 {
				return fmt.Errorf("%v requests of %q", n, labels)
			}
		}
		if n := all.Value(t, name+"requests", route...); n != 6 {
			return fmt.Errorf("%v requests", n)
		}
		return nil
	})
	for _, family := range []string{"request_duration_seconds", "response_duration_seconds", "request_size", "response_size", "bytes_sent"} {
		if n := all.Value(t, name+family, route...); n != 6 {
			t.Errorf("%s counts %v", family, n)
		}
	}
	if n := all.Value(t, name+"response_duration_seconds", closed...); n != 0 {
		t.Errorf("an endpoint has answered %v requests that none got", n)
	}
	if got := all.Bounds(t, name+"request_duration_seconds", route...); !slices.Equal(got, prometheus.DefBuckets) {
		t.Errorf("the buckets are %v", got)
	}
	if got := all.Bounds(t, name+"bytes_sent", route...); !slices.Equal(got, prometheus.ExponentialBuckets(10, 10, 7)) {
		t.Errorf("the buckets are %v", got)
	}
	for _, family := range []string{"request_size", "response_size"} {
		if sum := all.Find(t, name+family, route...).GetHistogram().GetSampleSum(); sum < 6*30 || sum > 6*400 {
			t.Errorf("%s adds up to %v octets", family, sum)
		}
	}
	if all.Value(t, name+"nginx_process_connections_total", "state=handled") < 7 || all.Value(t, name+"success") < 1 || all.Value(t, name+"config_last_reload_successful") != 1 {
		t.Errorf("connections or the configuration are not told: %v", all)
	}
}

func TestMetricsOfCertificates(t *testing.T) {
	ing := toService("toad")
	ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"toad"}, SecretName: "cert"}}
	w := newWorld(t, service("toad"), ing, tlsSecret(t, "cert", false, "toad"))
	w.eventually(func() error {
		all := metricstest.Gather(t, w.ingress.Collector())
		ends := all.Value(t, "nginx_ingress_controller_ssl_expire_time_seconds", "namespace=default", "host=toad", "secret_name=cert")
		if ends < float64(time.Now().Unix()) {
			return fmt.Errorf("the certificate ends at %v", ends)
		}
		return nil
	})
}
