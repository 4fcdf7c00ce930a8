package apiserver

import (
	"fmt"
	"net/http"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// shared changes a configuration so that its clients share their connections, as clients over a network do: with a dialer of
// its own each client would have connections of its own.
func shared(config *rest.Config, dial dialer) (*rest.Config, error) {
	secured, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for the api server: %w", err)
	}
	config = rest.CopyConfig(config)
	config.Dial, config.TLSClientConfig = nil, rest.TLSClientConfig{}
	config.Transport = utilnet.SetTransportDefaults(&http.Transport{
		DialContext: dial, TLSClientConfig: secured, TLSHandshakeTimeout: handshakeTimeout, DisableCompression: config.DisableCompression,
	})
	return config, nil
}

const handshakeTimeout = 10 * time.Second
