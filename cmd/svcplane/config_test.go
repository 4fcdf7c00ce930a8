package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"svcplane/address"
	"svcplane/apiserver/hostimages"
	"svcplane/proxy/ebpf"
	"svcplane/server"
)

func lab() server.Host {
	lan := netip.MustParsePrefix("192.0.2.1/24")
	pod := netip.MustParsePrefix("10.96.0.10/32")
	return server.Host{Name: "Edge", Machine: []address.Candidate{
		{Prefix: lan, Link: "eth0", Up: true, Carrier: true, Outward: true, Source: true},
		{Prefix: pod, Link: "sp-dns", Up: true, Own: true},
	}}
}

func flags(t *testing.T, args ...string) (*Options, *pflag.FlagSet) {
	t.Helper()
	var o Options
	fs := pflag.NewFlagSet("server", pflag.ContinueOnError)
	o.register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &o, fs
}

// TestTheNodeKeepsItsName: a host that is called otherwise since is the same node.
func TestTheNodeKeepsItsName(t *testing.T) {
	host := lab()
	host.Node = "before"
	for _, arg := range []string{"--node-name=", "--node-name=before"} {
		o, _ := flags(t, arg)
		if c, err := o.check(host); err != nil || c.NodeName != "before" {
			t.Errorf("%s: %+v, %v, want the name before", arg, c, err)
		}
	}
}

func TestDefaultsAreComplete(t *testing.T) {
	o, _ := flags(t)
	c, err := o.check(lab())
	if err != nil {
		t.Fatal(err)
	}
	if c.NodeName != "edge" || c.NodeIP() != netip.MustParseAddr("192.0.2.1") || c.KubernetesIP != netip.MustParseAddr("10.96.0.1") {
		t.Errorf("got %+v", c)
	}
	for _, part := range server.OptionalParts {
		if !c.Enabled(part) {
			t.Errorf("%s is disabled by default", part)
		}
	}
}

func TestTwoFamilies(t *testing.T) {
	host := lab()
	host.Machine = append(host.Machine, address.Candidate{Prefix: netip.MustParsePrefix("2001:db8::1/64"), Link: "eth0", Up: true, Carrier: true})
	o, _ := flags(t, "--service-cidr=10.96.0.0/16,fd00:96::/112", "--pod-cidr=10.244.0.0/16,fd00:244::/64")
	c, err := o.check(host)
	if err != nil {
		t.Fatal(err)
	}
	addrs := func(texts ...string) (all []netip.Addr) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	if !slices.Equal(c.DNSIPs, addrs("10.96.0.10", "fd00:96::a")) || !slices.Equal(c.NodeIPs, addrs("192.0.2.1", "2001:db8::1")) {
		t.Errorf("got %+v", c)
	}
}

func TestProxyFlags(t *testing.T) {
	host := lab()
	other := netip.MustParsePrefix("198.51.100.7/24")
	host.Machine = append(host.Machine, address.Candidate{Prefix: other, Link: "eth1", Up: true, Carrier: true})
	o, _ := flags(t, "--node-port-addresses=198.51.100.0/24,10.0.0.0/8", "--external-ips=false", "--proxy-health-address=", "--node-port-loopback", "--xdp=auto", "--ebpf-scheduler=maglev")
	c, err := o.check(host)
	if err != nil {
		t.Fatal(err)
	}
	p := c.Proxy
	if !slices.Equal(p.NodePortRanges, []netip.Prefix{other.Masked(), netip.MustParsePrefix("10.0.0.0/8")}) || !p.NoExternalIPs || p.Health.IsValid() || !p.LoopbackNodePorts || !p.XDP || p.Scheduler != ebpf.Maglev {
		t.Errorf("got %+v", p)
	}
}

// TestNodeWithoutAddresses: a laptop without a network, and a machine whose address is not there yet.
func TestNodeWithoutAddresses(t *testing.T) {
	o, _ := flags(t)
	if c, err := o.check(server.Host{Name: "x"}); err != nil || c.NodeIP() != netip.MustParseAddr("10.244.0.0") {
		t.Errorf("got %+v, %v", c, err)
	}
	o, _ = flags(t, "--node-ip=192.0.2.9", "--node-port-addresses=203.0.113.0/24", "--service-cidr=10.96.0.0/16,fd00:96::/112", "--pod-cidr=10.244.0.0/16,fd00:244::/64")
	host := lab()
	host.Served = true
	c, err := o.check(host)
	if want := []netip.Addr{netip.MustParseAddr("10.244.0.0"), netip.MustParseAddr("fd00:244::")}; err != nil || !slices.Equal(c.NodeIPs, want) {
		t.Errorf("after a run that had them: got %+v, %v; want %v", c, err, want)
	}
}

func TestBadOptionsSayWhatWhereAndHow(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		host func(*server.Host)
		want []string // all of these in the message
	}{
		"overlap":               {args: []string{"--pod-cidr=10.96.8.0/24"}, want: []string{"--service-cidr 10.96.0.0/16", "--pod-cidr 10.96.8.0/24", "overlap"}},
		"overlap with machine":  {args: []string{"--pod-cidr=192.0.0.0/16"}, want: []string{"--pod-cidr", "192.0.2.0/24", "another range"}},
		"host bits":             {args: []string{"--pod-cidr=10.1.1.1/16"}, want: []string{"--pod-cidr", "10.1.1.1/16"}},
		"range too small":       {args: []string{"--service-cidr=10.1.0.0/28", "--dns-ip=10.1.0.2"}, want: []string{"/24"}},
		"IPv6 only":             {args: []string{"--pod-cidr=fd00:244::/64"}, want: []string{"--pod-cidr", "IPv4 range"}},
		"three ranges":          {args: []string{"--pod-cidr=10.244.0.0/16,fd00:244::/64,fd00:245::/64"}, want: []string{"--pod-cidr", "one of IPv6"}},
		"one range of two":      {args: []string{"--pod-cidr=10.244.0.0/16,fd00:244::/64"}, want: []string{"--service-cidr 10.96.0.0/16", "fd00:244::/64", "give both"}},
		"IPv6 range too small":  {args: []string{"--pod-cidr=10.0.0.0/12,fd00:244::/112", "--service-cidr=172.20.0.0/16,fd00:96::/112", "--dns-ip=172.20.0.10"}, want: []string{"--pod-cidr fd00:244::/112", "smaller than 10.0.0.0/12"}},
		"no IPv6 address":       {args: []string{"--service-cidr=10.96.0.0/16,fd00:96::/112", "--pod-cidr=10.244.0.0/16,fd00:244::/64"}, want: []string{"no IPv6 address"}},
		"IPv6 dns, one family":  {args: []string{"--dns-ip=10.96.0.10,fd00:96::a"}, want: []string{"--dns-ip fd00:96::a", "IPv6 range"}},
		"dns outside":           {args: []string{"--dns-ip=10.97.0.1"}, want: []string{"--dns-ip 10.97.0.1", "10.96.0.0/16"}},
		"dns is the api":        {args: []string{"--dns-ip=10.96.0.1"}, want: []string{"--dns-ip 10.96.0.1"}},
		"foreign address":       {args: []string{"--node-ip=192.0.2.9"}, want: []string{"192.0.2.9", "192.0.2.1"}},
		"bad host name":         {host: func(h *server.Host) { h.Name = "my_host" }, want: []string{"my_host", "--node-name"}},
		"nodeports elsewhere":   {args: []string{"--node-port-addresses=198.51.100.0/24"}, want: []string{"--node-port-addresses", "192.0.2.1"}},
		"nodeports on loopback": {args: []string{"--node-port-addresses=127.0.0.0/8"}, want: []string{"--node-port-loopback"}},
		"nodeports nonsense":    {args: []string{"--node-port-addresses=everywhere"}, want: []string{"everywhere", "192.0.2.0/24"}},
		"health nonsense":       {args: []string{"--proxy-health-address=10256"}, want: []string{"--proxy-health-address", "10256"}},
		"unknown part":          {args: []string{"--disable=kitchen"}, want: []string{"kitchen", "dns, ingress, node, proxy"}},
		"unknown mode":          {args: []string{"--proxy-mode=ipvs"}, want: []string{"ipvs", "ebpf or iptables"}},
		"cgroup":                {args: []string{"--cgroup=/sys/fs/cgroup", "--proxy-mode=iptables"}, want: []string{"--cgroup", "--proxy-mode iptables"}},
		"unknown scheduler":     {args: []string{"--ebpf-scheduler=rr"}, want: []string{"--ebpf-scheduler", `"rr"`, "round-robin or least-connections"}},
		"bypass nonsense":       {args: []string{"--ebpf-bypass=on"}, want: []string{"--ebpf-bypass", "on", "auto or off"}},
		"a former name":         {args: []string{"--ebpf-shortcut=on"}, want: []string{"--ebpf-bypass", "on", "auto or off"}},
		"xdp nonsense":          {args: []string{"--xdp=generic"}, want: []string{"--xdp", "generic", "auto or off"}},
		"xdp of iptables":       {args: []string{"--xdp=auto", "--proxy-mode=iptables"}, want: []string{"--xdp auto", "--proxy-mode iptables"}},
		"port 0":                {args: []string{"--api-address=0.0.0.0:0"}, want: []string{"--api-address"}},
		"port range":            {args: []string{"--node-port-range=9-1"}, want: []string{"--node-port-range"}},
		"domain":                {args: []string{"--cluster-domain=a b"}, want: []string{"--cluster-domain"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := flags(t, tc.args...)
			host := lab()
			if tc.host != nil {
				tc.host(&host)
			}
			_, err := o.check(host)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
		})
	}
}

func TestAddressesOfOurOwnLinksAreNoConflict(t *testing.T) {
	host := lab() // has 10.96.0.10 on sp-dns from an earlier run
	o, _ := flags(t)
	if _, err := o.check(host); err != nil {
		t.Errorf("a restart is refused: %v", err)
	}
}

func TestConfigFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("node-name: fromfile\npod-cidr: 10.50.0.0/16\ndisable: [dns, ingress]\nverbosity: 3\n")
	o, fs := flags(t, "--node-name=fromflag")
	if err := loadFile(path, fs); err != nil {
		t.Fatal(err)
	}
	if o.NodeName != "fromflag" || o.PodCIDR != "10.50.0.0/16" || strings.Join(o.Disable, " ") != "dns ingress" || o.Verbosity != 3 {
		t.Errorf("got %+v", o)
	}
	for text, want := range map[string]string{
		"nodename: x\n":                `unknown key "nodename"`,
		"config: other.yaml\n":         `unknown key "config"`,
		"verbosity: many\n":            `key "verbosity"`,
		"- a list\n":                   "must be YAML",
		"node-name: a\nnode-name: b\n": "node-name",
	} {
		write(text)
		_, fs := flags(t)
		if err := loadFile(path, fs); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v, want it to name %s and say %s", text, err, path, want)
		}
	}
}

func TestNodeFlags(t *testing.T) {
	o, _ := flags(t, "--system-reserved=cpu=200m,pid=100", "--kube-reserved=memory=1Gi", "--node-capacity=cpu=64,memory=256Gi", "--node-capacity=pods=1k", "--node-capacity=ephemeral-storage=1Ti", "--host-images=off")
	c, err := o.check(lab())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[corev1.ResourceName]int64{"cpu": 64, "memory": 256 << 30, "pods": 1000, "ephemeral-storage": 1 << 40} {
		if got := c.Capacity[name]; got.Value() != want {
			t.Errorf("%s is %s, want %d", name, got.String(), want)
		}
	}
	if cpu, pids, memory := c.SystemReserved["cpu"], c.SystemReserved["pid"], c.KubeReserved["memory"]; cpu.MilliValue() != 200 || pids.Value() != 100 || memory.Value() != 1<<30 {
		t.Errorf("reserved are %v and %v", c.SystemReserved, c.KubeReserved)
	}
	if c.PodMaxPIDs != podMaxPIDs {
		t.Errorf("a pod may have %d processes, want %d", c.PodMaxPIDs, podMaxPIDs)
	}
	if c.Logs.MaxSize != 10<<20 || c.Logs.MaxFiles != 5 || len(c.EvictionHard) != 5 || c.PressureTransition != 5*time.Minute {
		t.Errorf("the kubelet's defaults: logs %v, eviction %v, %v", c.Logs, c.EvictionHard, c.PressureTransition)
	}
	if c.HostImages != hostimages.Off {
		t.Errorf("host images are %s, want off", c.HostImages)
	}
	for arg, want := range map[string]string{
		"--node-capacity=cpu":                "must be like cpu=64",
		"--node-capacity=cpu=":               "is no quantity",
		"--node-capacity=cpu=-1":             "more than 0",
		"--node-capacity=cpu=0":              "more than 0",
		"--node-capacity=pods=1.5":           "whole numbers",
		"--node-capacity=nvidia.com/gpu=1":   "a node offers",
		"--node-capacity=cpu=1,cpu=2":        "given twice",
		"--system-reserved=pods=1":           "a node offers cpu, memory, ephemeral-storage and pid",
		"--kube-reserved=memory=-1Gi":        "more than 0",
		"--pod-max-pids=0":                   "more than 0",
		"--host-images=maybe":                "must be on, off or privileged-namespaces",
		"--eviction-hard=memory<1Gi":         "unsupported eviction signal memory",
		"--container-log-max-size=0":         "not 0",
		"--container-log-max-size=big":       "is no quantity",
		"--container-log-max-files=1":        "must be > 1",
		"--allowed-unsafe-sysctls=vm.*":      "not known to be namespaced",
		"--allowed-unsafe-sysctls=net.*.x":   "must be a name such as",
		"--host-images=privileged-namespace": "must be on, off or privileged-namespaces",
	} {
		o, _ := flags(t, arg)
		if _, err := o.check(lab()); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), strings.SplitN(arg, "=", 2)[0]+" ") {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
	}
}

// TestConfigFileThatIsInstalled: each of its keys is one, with a value that could be meant.
func TestConfigFileThatIsInstalled(t *testing.T) {
	raw, err := os.ReadFile("../../packaging/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^#(\S)`).ReplaceAll(raw, []byte("$1"))
	if bytes.Equal(all, raw) {
		t.Fatal("it has no keys")
	}
	for name, text := range map[string][]byte{"as it is": raw, "with everything in it": all} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		root := newRoot()
		root.SetArgs([]string{"server", "--config", path, "--check"})
		if err := root.Execute(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDataDirectoryOfAConfigFile(t *testing.T) {
	t.Setenv("SVCPLANE_DATA_DIR", "")
	path := filepath.Join(t.TempDir(), "config.yaml")
	if dir, err := configuredDataDir(path); dir != standardDataDir || err != nil {
		t.Errorf("without a file: %q, %v", dir, err)
	}
	for text, want := range map[string]string{"data-dir: /srv/svcplane\nproxy-mode: iptables\n": "/srv/svcplane", "# nothing\n": standardDataDir} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if dir, err := configuredDataDir(path); dir != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", text, dir, err, want)
		}
	}
	if err := os.WriteFile(path, []byte("datadir: /srv\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := configuredDataDir(path); err == nil || !strings.Contains(err.Error(), "say --data-dir") {
		t.Errorf("a wrong key: %v", err)
	}
}
