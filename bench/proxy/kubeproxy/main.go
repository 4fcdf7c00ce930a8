// Command kube-proxy is upstream's own, built from the module proxy as the peer of the Service proxy's benchmarks.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() { os.Exit(cli.Run(app.NewProxyCommand())) }
