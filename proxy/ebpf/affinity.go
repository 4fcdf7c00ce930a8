package ebpf

import (
	"context"
	"time"

	"svcplane/proxy"
)

// Affinities reads which endpoints the clients of table's Services with session affinity have.
func (d *Dataplane) Affinities(_ context.Context, table proxy.Table) ([]proxy.ClientAffinity, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return nil, nil
	}
	frontends := map[uint64]proxy.Frontend{}
	for _, f := range table.Frontends {
		if f.Affinity > 0 {
			frontends[originID(f)] = f
		}
	}
	if len(frontends) == 0 {
		return nil, nil
	}
	entries, err := d.kernel.read(mapAffinity)
	if err != nil {
		return nil, err
	}
	now, clock := time.Now(), uptime()
	var all []proxy.ClientAffinity
	for key, value := range entries {
		f, known := frontends[native.Uint64([]byte(key))]
		age := clock - time.Duration(native.Uint64([]byte(value)[24:]))
		if known && age <= f.Affinity {
			all = append(all, proxy.ClientAffinity{
				Origin: f.Origin(), Protocol: f.Protocol, Client: getAddr([]byte(key)[8:]),
				Endpoint: getAddrPort([]byte(value)), Last: now.Add(-age),
			})
		}
	}
	return all, nil
}

// SetAffinities writes them where the programs look.
func (d *Dataplane) SetAffinities(_ context.Context, all []proxy.ClientAffinity) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.open(); err != nil {
		return err
	}
	now, clock := time.Now(), uptime()
	for _, s := range all {
		id := hash("origin", s.Origin, string(s.Protocol))
		key := string(putAddr(native.AppendUint64(nil, id), s.Client))
		value := string(native.AppendUint32([]byte(slot(s.Endpoint)), 0))
		value = string(native.AppendUint64([]byte(value), uint64(max(0, clock-now.Sub(s.Last)))))
		if err := d.kernel.put(entry{mapAffinity, key, value}); err != nil {
			return err
		}
	}
	return nil
}
