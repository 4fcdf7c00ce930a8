package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lanserver:", err)
		os.Exit(1)
	}
}

// run serves on the address in args[0], as host:port, until the process is ended, or is a client.
func run(args []string) error {
	if len(args) > 0 && args[0] == "keep" {
		return keep(args[1:])
	}
	if len(args) > 0 && args[0] == "registry" {
		return serveRegistry(args[1:])
	}
	if len(args) != 1 {
		return errors.New("usage: lanserver HOST:PORT, or lanserver keep HOST:PORT CONNECTIONS FILE, or lanserver registry HOST:PORT USER:PASSWORD CUT ARCHIVE NAME")
	}
	server := &http.Server{Addr: args[0], Handler: http.HandlerFunc(sayName), ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

func sayName(w http.ResponseWriter, r *http.Request) {
	local := r.Context().Value(http.LocalAddrContextKey)
	fmt.Fprintf(w, "lanserver %v called by %s\n", local, r.RemoteAddr)
}
