package server

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"svcplane/address"
	"svcplane/apiserver"
	"svcplane/node"
)

// Host is what has to be known of the machine before anything on it is changed, read once.
type Host struct {
	Name    string
	Machine []address.Candidate // its global addresses
	// Served: a server has run on this data directory. The addresses that it was given were right then, and may be again.
	Served bool
	// Node is what the node of the data directory is called; empty: it has none yet.
	Node string
}

// ReadHost looks at the machine and at a data directory, which need not be there.
func ReadHost(dataDir string) (Host, error) {
	var h Host
	var err error
	if h.Name, err = os.Hostname(); err != nil {
		return h, fmt.Errorf("reading the host name: %w", err)
	}
	if h.Machine, err = address.Read(); err != nil {
		return h, err
	}
	_, err = os.Stat(apiserver.StoreDir(dataDir))
	h.Served = err == nil // whoever opens the directory says what is wrong with it
	h.Node = node.Name(nodeDir(dataDir))
	return h, nil
}

// has says whether a link of the machine has the address.
func (h *Host) has(a netip.Addr) bool {
	for _, c := range h.Machine {
		if c.Addr() == a {
			return true
		}
	}
	return false
}

func (h *Host) addrTexts() string {
	var texts []string
	for _, c := range h.Machine {
		if !c.Own {
			texts = append(texts, c.Addr().String())
		}
	}
	return strings.Join(texts, ", ")
}
