package admin

import "strings"

// The kinds of names that commands take.
const (
	NamesOfNamespaces = "namespaces"
	NamesOfServices   = "services" // of one namespace
	NamesOfPods       = "pods"     // of one namespace
	NamesOfHosts      = "hosts"    // of Ingresses
	NamesOfDNS        = "dns"      // of Services, in full
)

// PodNamed reads pod/NAME, in which commands say who asks.
func PodNamed(text string) (name string, ok bool) {
	kind, pod, ok := strings.Cut(text, "/")
	return pod, ok && pod != "" && (kind == "pod" || kind == "pods" || kind == "po")
}
