// Command caddy is Caddy with its standard modules, built from its Go module, as a peer in the benchmark.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
