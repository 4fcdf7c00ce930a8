package sandbox

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
)

// Pool hands out the addresses of one IPv4 prefix, round robin, without its first and last address.
type Pool struct {
	prefix netip.Prefix

	mu   sync.Mutex
	next uint32 // offset in the prefix where the search begins
	used map[netip.Addr]string
}

// NewPool makes a pool over prefix, which must be IPv4 and hold at least four addresses. next is where the
// search begins (Next of an earlier pool), 0 for a new one.
func NewPool(prefix netip.Prefix, next uint32) (*Pool, error) {
	if !prefix.IsValid() || !prefix.Addr().Is4() || prefix.Bits() > 30 || prefix.Bits() < 8 {
		return nil, fmt.Errorf("pod CIDR %s: need an IPv4 prefix from /8 to /30", prefix)
	}
	return &Pool{prefix: prefix.Masked(), next: next, used: map[netip.Addr]string{}}, nil
}

// Take gives a free address to owner.
func (p *Pool) Take(owner string) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := uint32(1) << (32 - p.prefix.Bits())
	for range size {
		offset := p.next % size
		p.next = (offset + 1) % size
		if offset == 0 || offset == size-1 {
			continue
		}
		if addr := p.at(offset); p.used[addr] == "" {
			p.used[addr] = owner
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("pod CIDR %s: all %d addresses are in use; delete pods or start with a larger --pod-cidr", p.prefix, size-2)
}

// Reserve marks an address that owner has from an earlier run. An address outside of the prefix (the prefix
// was changed) is nobody's here and no error.
func (p *Pool) Reserve(addr netip.Addr, owner string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.prefix.Contains(addr) {
		return nil
	}
	if other := p.used[addr]; other != "" && other != owner {
		return fmt.Errorf("pod address %s is recorded for both %s and %s", addr, other, owner)
	}
	p.used[addr] = owner
	return nil
}

// Release gives the address of owner back.
func (p *Pool) Release(addr netip.Addr, owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[addr] == owner {
		delete(p.used, addr)
	}
}

// Next is where the search for the next address begins: keep it, so that a restart does not hand out at
// once what was just given back.
func (p *Pool) Next() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next
}

// Beside is the pod address in an IPv6 prefix that goes with addr of the pool: as far into the one as addr is into the
// other, so that only one of a pod's two addresses has to be kept. The prefix must be as large as the pool's.
func (p *Pool) Beside(addr netip.Addr, prefix netip.Prefix) netip.Addr {
	base, a := p.prefix.Addr().As4(), addr.As4()
	out := prefix.Masked().Addr().As16()
	offset := binary.BigEndian.Uint32(a[:]) - binary.BigEndian.Uint32(base[:])
	binary.BigEndian.PutUint32(out[12:], binary.BigEndian.Uint32(out[12:])+offset)
	return netip.AddrFrom16(out)
}

func (p *Pool) at(offset uint32) netip.Addr {
	base := p.prefix.Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+offset)
	return netip.AddrFrom4(out)
}
