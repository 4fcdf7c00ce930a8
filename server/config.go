package server

import (
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/address"
	"svcplane/apiserver"
	"svcplane/apiserver/hostimages"
	"svcplane/dns"
	"svcplane/node"
	"svcplane/node/eviction"
	"svcplane/node/imagegc"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/switchover"
)

// Config says what a server is to be. The caller sets what people choose, as the flags of `svcplane server` do, and Complete
// adds what follows from it and from the machine.
type Config struct {
	DataDir  string
	NodeName string // empty: what the node was called before, or the host's name
	// Addresses are those that the node is to have; without any they are the machine's own.
	Addresses address.Wish
	// One of each of these, IPv4, or two with the IPv6 one second: the cluster then is dual-stack (KEP-563). The second of
	// DNSIPs may be left out.
	ServiceCIDRs, PodCIDRs []netip.Prefix
	DNSIPs                 []netip.Addr
	Domain                 string
	NodePorts              string         // "30000-32767"
	API, HTTP, HTTPS       netip.AddrPort // of the ingress the latter two
	Etcd                   []string       // an external store; none: the embedded one
	Disabled               []string       // parts
	ProxyMode, Cgroup      string
	DNS                    dns.Config // what people choose of it
	Ingress                IngressConfig
	Proxy                  ProxyConfig
	HostImages             hostimages.Mode
	Registries             string // path of registries.yaml; empty: RegistriesPath
	SeccompDefault         bool   // RuntimeDefault is the profile of containers that have none
	ImageGC                imagegc.Policy
	EvictionHard           []eviction.Threshold
	PressureTransition     time.Duration
	Logs                   node.LogPolicy
	UnsafeSysctls          []string            // that pods may set
	Capacity               corev1.ResourceList // in place of the machine's
	// What of the node is not there for pods.
	SystemReserved, KubeReserved corev1.ResourceList
	PodMaxPIDs                   int64 // processes and threads of one pod; not above 0: no limit
	Metrics                      []netip.AddrPort

	NodeIPs      []netip.Addr // at the start; set by Complete
	KubernetesIP netip.Addr   // of default/kubernetes; set by Complete
}

// ProxyConfig is what people choose of the Service proxy.
type ProxyConfig struct {
	NodePortRanges    []netip.Prefix // none: the node's own addresses
	Health            netip.AddrPort // invalid: nowhere
	NoExternalIPs     bool
	LoopbackNodePorts bool
	Drain             time.Duration
	XDP               bool
	Scheduler         ebpf.Scheduler
	NoBypass          bool
}

// IngressConfig is what people choose of the ingress.
type IngressConfig struct {
	Trusted             []netip.Prefix // proxies in front of it
	Classes             []string
	MaxConns, PerClient int
	MinRate             int    // octets a second
	Log                 string // a file; empty: none; "-": standard output
	LogFormat           string // one of AccessLogFormats
	LogSample           float64
	Handover            time.Duration
}

// IngressMaxConns is the usual IngressConfig.MaxConns.
const IngressMaxConns = 16384

// The parts that Config.Disabled may name.
const (
	PartProxy   = "proxy"
	PartDNS     = "dns"
	PartIngress = "ingress"
	PartNode    = "node"
)

// OptionalParts are those that Config.Disabled may name.
var OptionalParts = []string{PartDNS, PartIngress, PartNode, PartProxy}

// The values of Config.ProxyMode.
const (
	ModeAuto     = "auto"
	ModeIPTables = switchover.IPTables
	ModeEBPF     = switchover.EBPF
)

// Enabled says whether a part is to run.
func (c *Config) Enabled(part string) bool { return !slices.Contains(c.Disabled, part) }

// NodeIP is the node's IPv4 address at the start.
func (c *Config) NodeIP() netip.Addr { return c.NodeIPs[0] }

// podCIDR6 is zero on a cluster of one address family.
func (c *Config) podCIDR6() netip.Prefix {
	if len(c.PodCIDRs) < 2 {
		return netip.Prefix{}
	}
	return c.PodCIDRs[1]
}

// KubeconfigPath is the administrator's kubeconfig in a data directory.
func KubeconfigPath(dataDir string) string { return apiserver.KubeconfigPath(dataDir) }

// nodeDir is where the pods' volumes and logs lie in a data directory.
func nodeDir(dataDir string) string { return filepath.Join(dataDir, "node") }

// volumesDir is where the data of PersistentVolumes lies in a data directory.
func volumesDir(dataDir string) string { return filepath.Join(dataDir, "volumes") }

// RuntimeDir is where the pods' sandboxes, containers and images lie in a data directory.
func RuntimeDir(dataDir string) string { return filepath.Join(dataDir, "runtime") }
