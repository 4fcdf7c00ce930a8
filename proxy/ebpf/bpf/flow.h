// The table of translated connections. A connection from C:cp to V:vp that goes to the endpoint E:ep has
//
//	in,  C:cp > V:vp   becomes  C:np > E:ep      destination before routing, and the port that the endpoint sees
//	out, C:np > E:ep   becomes  N:np > E:ep      source after routing, when the client is masqueraded
//	in,  E:ep > N:np   becomes  E:ep > C:np      the same for what comes back
//	out, E:ep > C:np   becomes  V:vp > C:cp
//
// Addresses change where netfilter changes them, so routing, its checks and its connection table see one
// consistent pair, C:np and E:ep, in both directions. np is cp unless another connection has it.
#pragma once

#include "parse.h"

#define UDP_ONCE_IDLE (30 * SECOND) // one question and its answer
#define SYN_IDLE (60 * SECOND)
#define TCP_IDLE (24 * 3600 * SECOND)
#define CLOSING_IDLE (60 * SECOND)
#define CLOSED_IDLE (1 * SECOND)
#define PORT_TRIES 40

// closed says whether both ends have ended a connection of TCP, or one of them at once.
inline_ bool closed(__u8 state)
{
	return (state & STATE_RST) || (state & (STATE_FIN | STATE_FIN_OTHER)) == (STATE_FIN | STATE_FIN_OTHER);
}

// over says whether what an entry of the direction E > C stands for has ended.
inline_ bool over(const struct flow *f, __u8 proto, __u64 now)
{
	__u64 idle = now > f->last ? now - f->last : 0;
	if (proto != IPPROTO_TCP)
		return idle > (f->state & STATE_STREAM ? UDP_IDLE : UDP_ONCE_IDLE);
	if (closed(f->state))
		return idle > CLOSED_IDLE;
	if (f->state & (STATE_FIN | STATE_FIN_OTHER))
		return idle > CLOSING_IDLE;
	return idle > (f->state & STATE_SEEN ? TCP_IDLE : SYN_IDLE);
}

// touch notes what a packet says of its connection.
inline_ void touch(struct flow *f, const struct packet *p, __u64 now)
{
	__u8 state = f->state;
	__u64 since = now > f->last ? now - f->last : 0; // this clock is behind the process' by a tick
	if (p->tuple.proto != IPPROTO_TCP || !(p->flags & TCP_SYN) || (p->flags & TCP_ACK))
		state |= STATE_SEEN;
	if (p->flags & TCP_FIN)
		state |= STATE_FIN;
	if (p->flags & TCP_RST)
		state |= STATE_RST;
	if (since > SECOND / 8)
		state |= STATE_STREAM;
	if (state != f->state)
		f->state = state;
	if (since > SECOND / 8)
		f->last = now;
}

// weigh counts a packet between a client and an endpoint as the kernel's connection table does: the buffer is one packet, and its
// octets are counted with IP headers. A packet that OPENS a flow goes to the endpoint.
static __noinline int weigh(struct __sk_buff *skb, __u64 origin, const struct addr *addr, __be16 port, enum direction which)
{
	struct counter_key key = {.origin = origin, .slot = {.addr = *addr, .port = port}};
	struct counters *t = counters_of(&key);
	if (!t)
		return 0;
	if (which == OPENS)
		t->flows++;
	__u32 at = which == FROM_ENDPOINT;
	t->packets[at]++;
	t->bytes[at] += skb->len - ETH_HLEN;
	return 0;
}

static __noinline int count_refused(const struct counter_key *by)
{
	struct counter_key key = {.origin = by->origin};
	struct counters *t = counters_of(&key);
	if (t)
		t->flows++;
	return 0;
}

// new_flow is what make_flow works on.
struct new_flow {
	struct counter_key to; // the endpoint
	struct addr node;
	__u16 link; // of struct flow
	bool snat;
};

// reserve_port makes the entries of the way back with the port np; 0 when another connection has it. Not being
// static, it is verified once and not for every attempt; that takes pointers which it cannot trust.
__noinline int reserve_port(struct __sk_buff *skb, const struct packet *p, const struct new_flow *n, __u32 port)
{
	if (!p || !n)
		return 0;
	__be16 np = port;
	__u64 now = bpf_ktime_get_coarse_ns();
	struct flow_key key = {.src = n->to.slot.addr, .dst = p->tuple.src, .sport = n->to.slot.port, .dport = np,
			       .proto = p->tuple.proto, .stage = STAGE_OUT};
	struct flow back = {.to = p->tuple.dst, .port = p->tuple.dport, .other = p->tuple.sport, .last = now, .origin = n->to.origin,
			    .link = n->link};
	// an endpoint that dials itself from its own port could not tell the two directions apart
	if (np == n->to.slot.port && same(&n->to.slot.addr, &p->tuple.src))
		return 0;
	struct flow *old = bpf_map_lookup_elem(&flows, &key);
	if (old) {
		bool ours = same(&old->to, &back.to) && old->port == back.port && old->other == back.other;
		if (!ours && !over(old, p->tuple.proto, now))
			return 0;
		bpf_map_delete_elem(&flows, &key);
	}
	if (bpf_map_update_elem(&flows, &key, &back, BPF_NOEXIST))
		return 0;
	if (!n->snat)
		return 1;
	key.dst = n->node;
	key.stage = STAGE_IN;
	back.to = p->tuple.src;
	back.port = np;
	back.other = 0;
	back.origin = 0;
	old = bpf_map_lookup_elem(&flows, &key);
	if (old && !over(old, p->tuple.proto, now))
		goto taken;
	if (old)
		bpf_map_delete_elem(&flows, &key);
	if (listener(skb, &n->to.slot.addr, n->to.slot.port, &n->node, np, p->tuple.proto) == LISTENER_NONE &&
	    !bpf_map_update_elem(&flows, &key, &back, BPF_NOEXIST))
		return 1;
taken:
	key.dst = p->tuple.src;
	key.stage = STAGE_OUT;
	bpf_map_delete_elem(&flows, &key);
	return 0;
}

// pick_port reserves a port: the client's own if it is free and the client is not masqueraded, else a random one of the range
// for masqueraded clients. It returns 0 when none was free.
inline_ __be16 pick_port(struct __sk_buff *skb, const struct packet *p, const struct new_flow *n)
{
	struct settings *set = settings_of();
	if (!set)
		return 0;
	if (!n->snat && reserve_port(skb, p, n, p->tuple.sport))
		return p->tuple.sport;
	__u32 span = set->snat_last - set->snat_first + 1;
	for (int i = 0; i < PORT_TRIES; i++) {
		__be16 np = bpf_htons(set->snat_first + bpf_get_prandom_u32() % span);
		if (reserve_port(skb, p, n, np))
			return np;
	}
	return 0;
}

// make_flow makes all entries of a connection and puts into f what becomes of its first packet.
inline_ bool make_flow(struct __sk_buff *skb, const struct packet *p, const struct new_flow *n, struct flow *f)
{
	__be16 np = pick_port(skb, p, n);
	if (!np)
		return false;
	struct flow_key key = p->tuple;
	struct flow out = {.to = n->node, .port = np, .last = bpf_ktime_get_coarse_ns(), .link = n->link};
	if (n->snat) {
		key.dst = n->to.slot.addr;
		key.dport = n->to.slot.port;
		key.sport = np;
		key.stage = STAGE_OUT;
		bpf_map_update_elem(&flows, &key, &out, BPF_ANY);
	}
	key = p->tuple;
	key.stage = STAGE_IN;
	f->to = n->to.slot.addr;
	f->port = n->to.slot.port;
	f->other = np;
	f->flags = FLOW_FORWARD;
	f->last = out.last;
	f->origin = n->to.origin;
	f->link = n->link;
	bpf_map_update_elem(&flows, &key, f, BPF_ANY);
	count(COUNT_FLOW_MADE);
	return true;
}

// tell_back notes the client's end of a connection in the entry of the way back.
inline_ void tell_back(const struct packet *p, const struct flow *f, __u64 now)
{
	struct flow_key key = {.src = f->to, .dst = p->tuple.src, .sport = f->port, .dport = f->other,
			       .proto = p->tuple.proto, .stage = STAGE_OUT};
	struct flow *back = bpf_map_lookup_elem(&flows, &key);
	if (!back)
		return;
	bool was = closed(back->state);
	back->state |= p->flags & TCP_RST ? STATE_RST : STATE_FIN_OTHER;
	back->last = now;
	if (!was && closed(back->state)) {
		struct slot ep = {.addr = f->to, .port = f->port};
		add_conns(&ep, -1);
	}
}

// tell_masqueraded notes the end of a masqueraded client in the entry of what comes back to the node for it.
inline_ void tell_masqueraded(const struct packet *p, const struct flow *f)
{
	struct flow_key key = {.src = p->tuple.dst, .dst = f->to, .sport = p->tuple.dport, .dport = f->port,
			       .proto = p->tuple.proto, .stage = STAGE_IN};
	struct flow *back = bpf_map_lookup_elem(&flows, &key);
	if (back && !(back->flags & (FLOW_FORWARD | FLOW_FOREIGN)))
		back->state |= p->flags & TCP_RST ? STATE_RST : STATE_FIN_OTHER;
}

inline_ void reversed(struct flow_key *to, const struct flow_key *from)
{
	to->src = from->dst;
	to->dst = from->src;
	to->sport = from->dport;
	to->dport = from->sport;
	to->proto = from->proto;
}
