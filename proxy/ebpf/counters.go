package ebpf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"

	"svcplane/proxy"
)

const (
	// tidyPeriod is the time between two looks for counters of endpoints and Services that are gone.
	tidyPeriod = 30 * time.Second
	// tidyBudget is how many are removed at one look.
	tidyBudget = 10000
	// counterBatch is how many are read with one system call.
	counterBatch = 256
	// goneProtocol marks the slot under which the endpoints of the past are counted.
	goneProtocol = 255
)

// The layouts of struct counter_key and struct counters.
type (
	counterKey [32]byte
	counters   struct {
		Sockets        uint64
		Flows          uint64
		Packets, Bytes [2]uint64 // to, from the endpoint
	}
)

func (t *counters) add(u counters) {
	t.Sockets += u.Sockets
	t.Flows += u.Flows
	for i := range t.Packets {
		t.Packets[i] += u.Packets[i]
		t.Bytes[i] += u.Bytes[i]
	}
}

func sumOf(cpus []counters) (sum counters) {
	for _, t := range cpus {
		sum.add(t)
	}
	return sum
}

func (k counterKey) origin() uint64 { return native.Uint64(k[:]) }

// endpoint is zero where the key is not of one.
func (k counterKey) endpoint() netip.AddrPort {
	if k.subject() != proxy.Serving {
		return netip.AddrPort{}
	}
	return getAddrPort(k[8:])
}

func (k counterKey) subject() proxy.Subject {
	switch {
	case k[26] == goneProtocol:
		return proxy.Gone
	case k == refusedKey(k.origin()):
		return proxy.Refused
	}
	return proxy.Serving
}

// slot is the endpoint as maps have it.
func (k counterKey) slot() string { return string(k[8 : 8+slotSize]) }

func refusedKey(origin uint64) (k counterKey) {
	native.PutUint64(k[:], origin)
	return k
}

func goneKey(origin uint64) counterKey {
	k := refusedKey(origin)
	k[26] = goneProtocol
	return k
}

func servingKey(origin uint64, endpoint netip.AddrPort) counterKey {
	k := refusedKey(origin)
	copy(k[8:], slot(endpoint))
	return k
}

// readCounters reads what all processors have counted.
func readCounters(m *ebpf.Map) (map[counterKey]counters, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("counting processors: %w", err)
	}
	all := map[counterKey]counters{}
	keys, values := make([]counterKey, counterBatch), make([]counters, counterBatch*cpus)
	var at ebpf.MapBatchCursor
	for done := false; !done; {
		n, err := m.BatchLookup(&at, keys, values, nil)
		if done = errors.Is(err, ebpf.ErrKeyNotExist); err != nil && !done {
			return nil, fmt.Errorf("reading map %s: %w", mapServiceCounter, err)
		}
		for i, key := range keys[:n] {
			all[key] = sumOf(values[i*cpus : (i+1)*cpus])
		}
	}
	return all, nil
}

// counted reads the map without holding up changes; of says, by origin, what is in force.
func (d *Dataplane) counted() (all map[counterKey]counters, of map[uint64]service, err error) {
	d.mu.Lock()
	if d.kernel == nil || d.model == nil {
		d.mu.Unlock()
		return nil, nil, nil
	}
	m, err := d.kernel.maps[mapServiceCounter].Clone()
	d.mu.Unlock()
	if err != nil {
		return nil, nil, fmt.Errorf("opening map %s: %w", mapServiceCounter, err)
	}
	defer m.Close()
	if all, err = readCounters(m); err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.model == nil {
		return nil, nil, nil // a change failed meanwhile: what is in force is not known now
	}
	return all, d.model.services(all), nil
}

// service is a port of a Service that has been counted, and its endpoints.
type service struct {
	proxy.Counted
	endpoints map[netip.AddrPort]bool
}

// services are those of the origins of all.
func (m *model) services(all map[counterKey]counters) map[uint64]service {
	of := map[uint64]service{}
	for key := range all {
		of[key.origin()] = service{}
	}
	if len(of) == 0 {
		return of
	}
	for _, g := range m.groups {
		for _, f := range g {
			id := originID(f)
			s, ok := of[id]
			if !ok {
				continue
			}
			if s.endpoints == nil {
				s = service{Counted: proxy.Counted{Origin: f.Origin(), Protocol: f.Protocol}, endpoints: map[netip.AddrPort]bool{}}
				of[id] = s
			}
			for _, e := range f.Endpoints {
				s.endpoints[e.AddrPort] = true
			}
		}
	}
	for id, s := range of {
		if s.endpoints == nil {
			delete(of, id)
		}
	}
	return of
}

// counters are what the programs have counted, without open connections.
func (d *Dataplane) counters() ([]proxy.Tally, error) {
	all, of, err := d.counted()
	return presented(all, of, nil), err
}

// Tallies are what the programs have counted of the Services in force.
func (d *Dataplane) Tallies(context.Context) ([]proxy.Tally, error) {
	d.mu.Lock()
	open, err := d.openNow(false)
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	all, of, err := d.counted()
	return presented(all, of, open), err
}

// presented makes Tallies of counters, without those of Services that are gone.
func presented(all map[counterKey]counters, of map[uint64]service, open map[counterKey]uint64) []proxy.Tally {
	var list []proxy.Tally
	for key, t := range all {
		s, ok := of[key.origin()]
		if !ok {
			continue
		}
		s.Subject, s.Endpoint = key.subject(), key.endpoint()
		list = append(list, proxy.Tally{
			Counted: s.Counted, Open: open[key], Total: t.Sockets + t.Flows,
			Sent:     proxy.Volume{Packets: t.Packets[0], Bytes: t.Bytes[0]},
			Received: proxy.Volume{Packets: t.Packets[1], Bytes: t.Bytes[1]},
		})
	}
	return list
}

// tidyCounters removes the counters of Services that are gone, and adds those of endpoints that are gone, and of which
// nothing has been heard since the last look, to the sum of such.
func (d *Dataplane) tidyCounters() error {
	all, of, err := d.counted()
	if err != nil || all == nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return nil
	}
	m := d.kernel.maps[mapServiceCounter]
	quiet := map[counterKey]counters{}
	budget := tidyBudget
	for key, now := range all {
		s, known := of[key.origin()]
		if known && (key.subject() != proxy.Serving || s.endpoints[key.endpoint()]) {
			continue
		}
		before, looked := d.quiet[key]
		if !looked || before != now || budget == 0 {
			quiet[key] = now
			continue
		}
		budget--
		if err := retire(m, key, known); err != nil {
			return err
		}
	}
	d.quiet = quiet
	return nil
}

// retire removes a counter, and adds it to the sum of what is gone when that is kept.
func retire(m *ebpf.Map, key counterKey, keep bool) error {
	var last, sum []counters
	if err := m.LookupAndDelete(key, &last); err != nil || !keep {
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			err = nil
		}
		return wrapTidy(err)
	}
	gone := goneKey(key.origin())
	if err := m.Lookup(gone, &sum); errors.Is(err, ebpf.ErrKeyNotExist) {
		sum = make([]counters, len(last))
	} else if err != nil {
		return wrapTidy(err)
	}
	for i := range sum {
		sum[i].add(last[i])
	}
	return wrapTidy(m.Put(gone, sum))
}

func wrapTidy(err error) error {
	if err != nil {
		return fmt.Errorf("removing from map %s what is gone: %w", mapServiceCounter, err)
	}
	return nil
}
