package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// contender is one Service proxy with what was measured of it.
type contender struct {
	name    string
	words   func(c *cluster, n network) []string
	ordered bool // its rules have an order, which its iptables chain shows
	network network
	proc    *process
	closer  func()

	first, middle, last []time.Duration // (a)
	rates, gbits        []float64       // (b), (c)
	changes             []time.Duration // (d)
	starts              []time.Duration // (e)
	cpu                 time.Duration   // (f)
	rss, rssMost        float64
	storm               time.Duration
}

func contenders(ours, peer, prefix, api string) []*contender {
	kubeProxy := func(mode string) func(*cluster, network) []string {
		return func(c *cluster, n network) []string {
			return []string{peer, "--proxy-mode", mode, "--kubeconfig", c.kubeconfig(), "--hostname-override", n.node, "--cluster-cidr", "10.244.0.0/16",
				"--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0"}
		}
	}
	mine := func(variant string) func(*cluster, network) []string {
		return func(c *cluster, n network) []string {
			return []string{ours, "--kubeconfig", c.kubeconfig(), "--node-name", n.node, "--node-ip", n.nodeIP(), "--variant", variant}
		}
	}
	all := []*contender{
		{name: "svcplane", words: mine("nft")},
		{name: "svcplane legacy", words: mine("legacy")},
		{name: "kube-proxy iptables", words: kubeProxy("iptables"), ordered: true},
		{name: "kube-proxy nftables", words: kubeProxy("nftables")},
	}
	for i, c := range all {
		id := fmt.Sprintf("%s-%d", prefix, i+1)
		c.network = network{api: api, node: id + "n", client: id + "c", pod: id + "p", index: i + 1}
	}
	return all
}

func (k *contender) up(c *cluster) (err error) {
	if err = k.network.up(); err != nil {
		return err
	}
	k.closer, err = serve(k.network.pod)
	return err
}

func (k *contender) begin(c *cluster) (err error) {
	k.proc, err = start(k.network.node, filepath.Join(c.dir, k.network.node+".log"), k.words(c, k.network)...)
	return err
}

func (k *contender) down() {
	if k.proc != nil {
		k.proc.end()
		k.proc = nil
	}
	if k.closer != nil {
		k.closer()
		k.closer = nil
	}
	k.network.down()
}

func (k *contender) pause()  { k.proc.signal(syscall.SIGSTOP) }
func (k *contender) resume() { k.proc.signal(syscall.SIGCONT) }

func to(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), 80) }

// start (e): from the start of the process in a namespace without rules until Services answer.
func (k *contender) start(ctx context.Context, c *cluster, deadline time.Duration) error {
	began := time.Now()
	if err := k.begin(c); err != nil {
		return err
	}
	err := within(k.network.client, func() error {
		for _, i := range []int{0, len(c.services) / 2, len(c.services) - 1} {
			if err := await(ctx, to(c.services[i]), c.letterOf(i), began.Add(deadline)); err != nil {
				return err
			}
		}
		return nil
	})
	k.starts = append(k.starts, time.Since(began))
	return err
}

func (c *cluster) letterOf(i int) byte {
	if c.generation[i] == portNew {
		return 'n'
	}
	return 'o'
}

var ruleOfService = regexp.MustCompile(`(?m)^-A KUBE-SERVICES -d (\S+)/32 `)

// sorted are the ClusterIPs in the order in which a packet meets them.
func (k *contender) sorted(c *cluster) ([]string, error) {
	known := map[string]bool{}
	for _, ip := range c.services {
		known[ip] = true
	}
	if !k.ordered {
		all := slices.Clone(c.services)
		slices.SortFunc(all, func(a, b string) int { return netip.MustParseAddr(a).Compare(netip.MustParseAddr(b)) })
		return all, nil
	}
	out, err := exec.Command("nsenter", "--net=/run/netns/"+k.network.node, "iptables-save", "-t", "nat").Output()
	if err != nil {
		return nil, fmt.Errorf("listing kube-proxy's rules: %w", err)
	}
	var all []string
	for _, m := range ruleOfService.FindAllStringSubmatch(string(out), -1) {
		if known[m[1]] {
			all = append(all, m[1])
			delete(known, m[1])
		}
	}
	if len(all) != len(c.services) {
		return nil, fmt.Errorf("kube-proxy has rules for %d of %d services", len(all), len(c.services))
	}
	return all, nil
}

// traffic (a), (b), (c) of one round.
func (k *contender) traffic(order []string, streaming string, n int, period time.Duration) error {
	for _, at := range []struct {
		ip string
		to *[]time.Duration
	}{{order[0], &k.first}, {order[len(order)/2], &k.middle}, {order[len(order)-1], &k.last}} {
		took, err := connects(k.network.client, to(at.ip), n)
		if err != nil {
			return err
		}
		*at.to = append(*at.to, took...)
	}
	r, err := rate(k.network.client, to(order[len(order)-1]), period)
	if err != nil {
		return err
	}
	g, err := throughput(k.network.client, to(streaming), period)
	k.rates, k.gbits = append(k.rates, r), append(k.gbits, g)
	return err
}

// change (d): from before the request that changes the EndpointSlice until a new connection reaches the new
// endpoints.
func (k *contender) change(ctx context.Context, c *cluster, i int) error {
	port, want := int32(portNew), byte('n')
	if c.letterOf(i) == 'n' {
		port, want = portOld, 'o'
	}
	done := make(chan error, 1)
	var end time.Time
	go func() {
		done <- within(k.network.client, func() error {
			err := await(ctx, to(c.services[i]), want, time.Now().Add(2*time.Minute))
			end = time.Now()
			return err
		})
	}()
	time.Sleep(5 * time.Millisecond) // the client is asking by now
	began := time.Now()
	if err := c.move(ctx, i, port); err != nil {
		return err
	}
	err := <-done
	k.changes = append(k.changes, end.Sub(began))
	return err
}

// endure (f): a number of changes one after the other, as fast as the API takes them.
func (k *contender) endure(ctx context.Context, c *cluster, changes int) error {
	before, err := k.proc.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	last := 0
	for j := range changes {
		last = j % len(c.services)
		port := int32(portNew)
		if c.letterOf(last) == 'n' {
			port = portOld
		}
		if err := c.move(ctx, last, port); err != nil {
			return err
		}
	}
	if err := within(k.network.client, func() error { return await(ctx, to(c.services[last]), c.letterOf(last), time.Now().Add(5*time.Minute)) }); err != nil {
		return err
	}
	k.storm = time.Since(began)
	time.Sleep(2 * time.Second) // what is still under way is theirs, too
	after, err := k.proc.cpu()
	if err != nil {
		return err
	}
	k.cpu = after - before
	k.rss, k.rssMost, err = k.proc.memory()
	return err
}
