package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// first creates Services and prints how long, from the moment of sending to the API and from that of its reply, until
// a server gives the right answer: medians, in microseconds. It asks every 200 microseconds.
func first(ctx context.Context, o options) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	servers := map[string]netip.AddrPort{"ours": o.addr}
	if o.peer.IsValid() {
		servers["peer"] = o.peer
	}
	sent, replied := map[string][]time.Duration{}, map[string][]time.Duration{}
	for i := range o.rounds {
		svc := plain(i)
		svc.Name = fmt.Sprintf("first-%d-%d", time.Now().UnixMilli(), i)
		began := time.Now()
		seen := map[string]chan time.Time{}
		for who, server := range servers {
			seen[who] = make(chan time.Time, 1)
			go func() { seen[who] <- firstAnswer(ctx, server, svc) }()
		}
		made, err := client.CoreV1().Services(svc.Namespace).Create(ctx, svc, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		reply := time.Now()
		for who := range servers {
			at := <-seen[who]
			if at.IsZero() {
				return fmt.Errorf("%s has no answer for %s", who, svc.Name)
			}
			sent[who], replied[who] = append(sent[who], at.Sub(began)), append(replied[who], at.Sub(reply))
		}
		if err := client.CoreV1().Services(made.Namespace).Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	for who := range servers {
		fmt.Println(who, median(sent[who]).Microseconds(), median(replied[who]).Microseconds())
	}
	return nil
}

// firstAnswer asks until the name is there.
func firstAnswer(ctx context.Context, server netip.AddrPort, svc *corev1.Service) time.Time {
	c := &dns.Client{Timeout: time.Second}
	conn, err := c.DialContext(ctx, server.String())
	if err != nil {
		return time.Time{}
	}
	defer conn.Close()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(200 * time.Microsecond) {
		q := new(dns.Msg)
		q.SetQuestion(svc.Name+"."+svc.Namespace+".svc.cluster.local.", dns.TypeA)
		if m, _, err := c.ExchangeWithConn(q, conn); err == nil && len(m.Answer) == 1 {
			return time.Now()
		}
	}
	return time.Time{}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// churn asks for Services that stay, rate times a second, while others come and go as fast as the API lets them, and for
// those too: not one answer may be wrong or missing.
func churn(ctx context.Context, o options) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	list, err := client.CoreV1().Services(namespaceOf(0)).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	stays := map[string]string{}
	var names []string
	for _, svc := range list.Items {
		if svc.Spec.ClusterIP != corev1.ClusterIPNone {
			names = append(names, svc.Name+"."+svc.Namespace+".svc.cluster.local.")
			stays[names[len(names)-1]] = svc.Spec.ClusterIP
		}
	}
	var comes comings
	asker, err := newAsker(o.addr, func(q asked, m *dns.Msg) error {
		want, stay := stays[q.name]
		got := ""
		if len(m.Answer) == 1 {
			got = m.Answer[0].(*dns.A).A.String()
		}
		switch {
		case stay && got == want:
			return nil
		case stay:
			return fmt.Errorf("%s: %s %q, expected %s", q.name, dns.RcodeToString[m.Rcode], got, want)
		}
		return comes.check(q, m.Rcode, got)
	})
	if err != nil {
		return err
	}
	changing, stop := context.WithCancel(ctx)
	changed := make(chan int, 1)
	go func() { changed <- comes.keepComing(changing, o) }()
	err = paced(ctx, o.rate, o.seconds, func(i int) error {
		if i%10 == 0 {
			if name := comes.any(i); name != "" {
				return asker.send(name, dns.TypeA)
			}
		}
		return asker.send(names[i%len(names)], dns.TypeA)
	})
	stop()
	changes := <-changed
	asker.settle()
	fmt.Printf("%d questions, %d changes of Services, %d wrong or missing\n", o.rate*o.seconds, changes, len(asker.wrong))
	for _, w := range asker.wrong[:min(len(asker.wrong), 10)] {
		fmt.Println(" ", w)
	}
	if err == nil && (len(asker.wrong) > 0 || changes == 0) {
		err = errors.New("answers were wrong or missing, or nothing changed")
	}
	return err
}

// comings are Services that come and go: what may be answered depends on when it was asked.
type comings struct {
	mu   sync.Mutex
	list []*coming
	by   map[string]*coming
}

type coming struct {
	name, ip string
	there    time.Time // the API has confirmed it, and a margin for the watch has passed; zero: not yet
	going    time.Time // its deletion was about to be asked for; zero: not yet
}

// margin is how long after the API's confirmation an answer must be right.
const margin = 500 * time.Millisecond

func (c *comings) any(i int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == 0 {
		return ""
	}
	return c.list[len(c.list)-1-i/10%min(len(c.list), 20)].name
}

func (c *comings) check(q asked, rcode int, got string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.by[q.name]
	mustBe := !s.there.IsZero() && q.sent.After(s.there) && (s.going.IsZero() || time.Now().Before(s.going))
	mustNot := !s.going.IsZero() && q.sent.After(s.going.Add(2*margin))
	switch {
	case got != "" && s.ip != "" && got != s.ip, mustBe && got == "", mustNot && got != "",
		got == "" && rcode != dns.RcodeNameError:
		return fmt.Errorf("%s: %s %q, it is %q", q.name, dns.RcodeToString[rcode], got, s.ip)
	}
	return nil
}

// keepComing creates and deletes until ctx ends, and says how often.
func (c *comings) keepComing(ctx context.Context, o options) (changes int) {
	client, err := o.client()
	if err != nil {
		return 0
	}
	c.mu.Lock()
	c.by = map[string]*coming{}
	c.mu.Unlock()
	var here []*corev1.Service
	for i := 0; ctx.Err() == nil; i++ {
		svc := plain(i)
		svc.Name = fmt.Sprintf("comes-%d-%d", i, time.Now().UnixMilli())
		s := &coming{name: svc.Name + "." + svc.Namespace + ".svc.cluster.local."}
		c.mu.Lock()
		c.by[s.name] = s
		c.list = append(c.list, s)
		c.mu.Unlock()
		made, err := client.CoreV1().Services(svc.Namespace).Create(ctx, svc, metav1.CreateOptions{})
		if err != nil {
			continue
		}
		changes++
		c.mu.Lock()
		s.ip, s.there = made.Spec.ClusterIP, time.Now().Add(margin)
		c.mu.Unlock()
		if here = append(here, made); len(here) <= 10 {
			continue
		}
		gone := here[0]
		here = here[1:]
		c.mu.Lock()
		c.by[gone.Name+"."+gone.Namespace+".svc.cluster.local."].going = time.Now()
		c.mu.Unlock()
		if client.CoreV1().Services(gone.Namespace).Delete(ctx, gone.Name, metav1.DeleteOptions{}) == nil {
			changes++
		}
	}
	return changes
}
