package scrape

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestPortsServeMetricsAndNothingElse(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "svcplane_tests_total", Help: "Tests."}))
	opened := make(chan net.Addr, 2)
	s := New(Config{
		Addresses: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.0.0.1:0")},
		Gatherer:  registry, Mode: func() string { return "ebpf" },
		Listen: func(at netip.AddrPort) (net.Listener, error) {
			l, err := net.Listen("tcp", at.String())
			if err == nil {
				opened <- l.Addr()
			}
			return l, err
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	for range 2 {
		base := "http://" + (<-opened).String()
		for path, want := range map[string]string{"/metrics": "svcplane_tests_total 0\n", "/healthz": "ok", "/proxyMode": "ebpf", "/debug/pprof/": "404", "/": "404"} {
			resp, err := http.Get(base + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.Contains(string(body), want) {
				t.Errorf("%s: %d %s %v, want %q in it", path, resp.StatusCode, body, err, want)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAPortThatCannotBeOpenedEndsIt(t *testing.T) {
	first := errors.New("taken")
	at := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")}
	var open net.Listener
	err := New(Config{Addresses: at, Gatherer: prometheus.NewRegistry(), Listen: func(a netip.AddrPort) (net.Listener, error) {
		if a == at[1] {
			return nil, first
		}
		var err error
		open, err = net.Listen("tcp", "127.0.0.1:0")
		return open, err
	}}).Run(t.Context())
	if !errors.Is(err, first) {
		t.Errorf("got %v", err)
	}
	if _, err := open.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the port that was opened before stays open: %v", err)
	}
}
