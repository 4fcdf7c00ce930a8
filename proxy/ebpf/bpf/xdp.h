// XDP: what may not open a connection to a Service is dropped before the kernel makes an skb of it. Everything else
// passes, and whatever passes is looked at again by packet.h: the two agree on what is dropped.
#pragma once

#include "packet.h"

static __noinline void parse_early(struct xdp_md *ctx, struct packet *p)
{
	struct ethhdr eth;
	if (!load(ctx, true, 0, &eth, sizeof(eth)))
		parse_from(ctx, true, eth.h_proto, p);
}

inline_ int early(struct xdp_md *ctx)
{
	struct packet p = {};
	parse_early(ctx, &p);
	if (p.kind != KIND_FLOW || !opens(&p) || draining(settings_of(), &p.tuple.dst))
		return XDP_PASS;
	struct frontend *fe = find_frontend(&p.tuple.dst, p.tuple.dport, p.tuple.proto);
	if (!fe)
		return XDP_PASS;
	struct side *s = in_cidr(&p.tuple.src, CIDR_POD) ? &fe->inside : &fe->outside;
	p.tuple.stage = STAGE_IN;
	// a connection that is under way goes on, whatever has become of its Service
	if (!s->scope || bpf_map_lookup_elem(&flows, &p.tuple))
		return XDP_PASS;
	return barred(s, &p.tuple.src) ? XDP_DROP : XDP_PASS;
}
