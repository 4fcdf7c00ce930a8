// Packet level: what enters the node for a Service and did not come from a socket that the socket level has seen.
#pragma once

#include "flow.h"
#include "refuse.h"

#define NEXT -1 // TCX_NEXT, TC_ACT_UNSPEC: others may look at it

inline_ bool opens(const struct packet *p)
{
	return !p->later && (p->tuple.proto != IPPROTO_TCP || (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN);
}

// error handles an ICMP error at one of the two stages.
static __noinline int error(struct __sk_buff *skb, struct packet *p, __u8 stage)
{
	struct flow_key key = {.stage = stage};
	bool src = stage == STAGE_OUT;
	struct addr outer = {};
	reversed(&key, &p->tuple);
	struct flow *found = bpf_map_lookup_elem(&flows, &key);
	if (!found || (found->flags & FLOW_FOREIGN))
		return NEXT;
	struct flow f = *found;
	if (p->v6) {
		if (bpf_skb_load_bytes(skb, p->l3 + (src ? 8 : 24), &outer, 16))
			return NEXT;
	} else {
		__u32 v4;
		if (bpf_skb_load_bytes(skb, p->l3 + (src ? 12 : 16), &v4, 4))
			return NEXT;
		outer = mapped(v4);
	}
	rewrite_error(skb, p, &f, src, &outer);
	return NEXT;
}

// unknown handles a packet to an address that no Service has.
inline_ int unknown(struct __sk_buff *skb, struct packet *p)
{
	if (!in_cidr(&p->tuple.dst, CIDR_SERVICE) ||
	    listener(skb, &p->tuple.src, p->tuple.sport, &p->tuple.dst, p->tuple.dport, p->tuple.proto) == LISTENER_EXACT)
		return NEXT;
	return refuse(skb, p);
}

// turn_away refuses a connection to a Service.
inline_ int turn_away(struct __sk_buff *skb, struct packet *p, const struct counter_key *by)
{
	count_refused(by);
	return refuse(skb, p);
}

// became notes what rewrite has made of the destination of a packet.
inline_ void became(struct packet *p, const struct flow *f)
{
	p->tuple.dst = f->to;
	p->tuple.dport = f->port;
	if (f->other)
		p->tuple.sport = f->other;
	p->translated = true;
	p->forward = f->flags & FLOW_FORWARD;
	p->link = f->link;
}

// pod_link is the link that a pod of this node is behind.
inline_ __u32 *pod_link(const struct addr *pod)
{
	return bpf_map_lookup_elem(&pod_routes, pod);
}

// follow takes the endpoint that was chosen for a pod's socket at connect(), which left the translation to the packets.
inline_ bool follow(struct __sk_buff *skb, const struct packet *p, const struct side *s, struct slot *out)
{
	struct socket_key asked = {.cookie = bpf_get_socket_cookie(skb)};
	asked.slot.addr = p->tuple.dst;
	asked.slot.port = p->tuple.dport;
	asked.slot.proto = p->tuple.proto;
	return asked.cookie && chosen(&asked, s, out);
}

// open handles the first packet of a connection.
static __noinline int open(struct __sk_buff *skb, struct packet *p)
{
	struct new_flow n = {};
	struct flow f = {};
	struct settings *set = settings_of();
	if (!set || draining(set, &p->tuple.dst))
		return NEXT;
	struct frontend *fe = find_frontend(&p->tuple.dst, p->tuple.dport, p->tuple.proto);
	if (!fe)
		return unknown(skb, p);
	bool pod = in_cidr(&p->tuple.src, CIDR_POD);
	struct side *s = pod ? &fe->inside : &fe->outside;
	if (!s->scope)
		return NEXT;
	if (barred(s, &p->tuple.src))
		return TC_ACT_SHOT;
	n.to.origin = s->origin;
	if (s->verdict == VERDICT_REJECT)
		return turn_away(skb, p, &n.to);
	if (!(pod && follow(skb, p, s, &n.to.slot)) && !choose(s, &p->tuple.src, hash_of(&p->tuple), &n.to.slot)) {
		// the set was exchanged between the two lookups: the frontend names the new one by now
		fe = find_frontend(&p->tuple.dst, p->tuple.dport, p->tuple.proto);
		if (!fe)
			return turn_away(skb, p, &n.to);
		s = pod ? &fe->inside : &fe->outside;
		n.to.origin = s->origin;
		if (!choose(s, &p->tuple.src, hash_of(&p->tuple), &n.to.slot))
			return turn_away(skb, p, &n.to);
	}
	if (set->bypass == BYPASS_ON && skb->ifindex <= 0xffff && pod_link(&n.to.slot.addr))
		n.link = skb->ifindex;
	n.node = set->node[p->v6 & 1];
	n.snat = s->masquerade == MASQ_EVERYBODY || (s->masquerade == MASQ_OUTSIDE_PODS && !pod) || same(&n.to.slot.addr, &p->tuple.src);
	if (!make_flow(skb, p, &n, &f)) {
		count(COUNT_DROP_NO_PORT);
		return TC_ACT_SHOT;
	}
	weigh(skb, n.to.origin, &f.to, f.port, OPENS);
	if (p->tuple.proto == IPPROTO_TCP) // nobody sees the end of the others
		add_conns(&n.to.slot, 1);
	rewrite(skb, p, &f, false);
	became(p, &f);
	return NEXT;
}

// renewed says whether a packet that fits an entry belongs to another connection than the entry.
inline_ bool renewed(const struct flow *f, const struct packet *p, __u64 now)
{
	if (p->later)
		return false;
	// what comes back is of a connection of netfilter's when ours has ended: it may have got the same port. What a
	// client says in UDP is not noted here, so an old entry may be of a connection that lives
	if (!(f->flags & (FLOW_FORWARD | FLOW_FOREIGN)))
		return p->tuple.proto == IPPROTO_TCP && over(f, p->tuple.proto, now);
	if (p->tuple.proto != IPPROTO_TCP)
		return over(f, p->tuple.proto, now);
	if (!opens(p))
		return false;
	return (f->state & (STATE_FIN | STATE_RST)) || (!(f->state & STATE_SEEN) && now > f->last && now - f->last > SYN_IDLE);
}

// supersede forgets a connection that has ended when another one begins between the same two ends: netfilter, or a
// socket, got its port, and what comes back would be taken for the answer to the earlier client.
inline_ void supersede(const struct packet *p, __u8 stage)
{
	struct flow_key key = {.stage = stage};
	if (p->tuple.proto != IPPROTO_TCP)
		return;
	reversed(&key, &p->tuple);
	struct flow *old = bpf_map_lookup_elem(&flows, &key);
	if (old && !(old->flags & (FLOW_FORWARD | FLOW_FOREIGN)) && (old->state & (STATE_FIN | STATE_FIN_OTHER | STATE_RST)))
		bpf_map_delete_elem(&flows, &key);
}

// carry does to a packet what is done to all of its connection.
static __noinline int carry(struct __sk_buff *skb, struct packet *p, struct flow *found, __u64 now)
{
	struct flow f = *found;
	touch(found, p, now);
	if (f.flags & FLOW_FOREIGN)
		return NEXT;
	if ((p->flags & (TCP_FIN | TCP_RST)) && (f.flags & FLOW_FORWARD))
		tell_back(p, &f, now);
	if (f.origin)
		weigh(skb, f.origin, &f.to, f.port, TO_ENDPOINT);
	rewrite(skb, p, &f, false);
	became(p, &f);
	return NEXT;
}

// arrive is the first stage: the destination.
inline_ int arrive(struct __sk_buff *skb, struct packet *p)
{
	parse(skb, p);
	if (p->kind == KIND_ERROR)
		return error(skb, p, STAGE_IN);
	if (p->kind == KIND_BAD)
		count(COUNT_MALFORMED);
	if (p->kind != KIND_FLOW)
		return NEXT;
	p->tuple.stage = STAGE_IN;
	struct flow *found = bpf_map_lookup_elem(&flows, &p->tuple);
	if (found) {
		__u64 now = bpf_ktime_get_coarse_ns();
		if (!renewed(found, p, now))
			return carry(skb, p, found, now);
		// who takes the connection that begins here must find no trace of the one before
		if (draining(settings_of(), &p->tuple.dst))
			bpf_map_delete_elem(&flows, &p->tuple);
	}
	if (!opens(p))
		return NEXT;
	supersede(p, STAGE_OUT);
	return open(skb, p);
}

// depart is the second stage, the source, of a packet that has an entry there.
static __noinline int depart(struct __sk_buff *skb, const struct packet *p, struct flow *found)
{
	struct flow f = *found;
	touch(found, p, bpf_ktime_get_coarse_ns());
	if (p->flags & (TCP_FIN | TCP_RST))
		tell_masqueraded(p, &f);
	if (f.origin)
		weigh(skb, f.origin, &p->tuple.src, p->tuple.sport, FROM_ENDPOINT);
	if (f.origin && !closed(f.state) && closed(found->state)) {
		struct slot ep = {.addr = p->tuple.src, .port = p->tuple.sport};
		add_conns(&ep, -1);
	}
	rewrite(skb, p, &f, true);
	return f.link;
}

#define DEPARTED 0x7370 // in skb->tc_index: both stages are behind the packet

// bypass redirects a packet to the pod that it is for, or to the link of the client that it is for, past the node's own
// stack. Both directions of a connection take the bypass or none does: netfilter must not see half of a connection.
inline_ int bypass(struct __sk_buff *skb, struct packet *p)
{
	struct settings *set = settings_of();
	if (!p->plain || !set || set->role != ROLE_SOLE || set->bypass == BYPASS_OFF || (p->translated && !p->link))
		return NEXT;
	__u32 *from = pod_link(&p->tuple.src);
	// a pod speaks for itself only; others can tell nobody but a Service's endpoints
	if (from ? *from != skb->ifindex : !p->translated)
		return NEXT;
	__u32 *to = pod_link(&p->tuple.dst);
	if (!to && p->forward)
		return NEXT; // the endpoint has gone
	p->tuple.stage = STAGE_OUT;
	struct flow *found = bpf_map_lookup_elem(&flows, &p->tuple);
	if (found ? !found->link : !to)
		return NEXT;
	__u32 link = found ? depart(skb, p, found) : 0;
	skb->mark &= ~FORWARD_MARK;
	if (to)
		return bpf_redirect_peer(*to, 0);
	skb->tc_index = DEPARTED;
	return bpf_redirect_neigh(link, 0, 0, 0);
}

inline_ int ingress(struct __sk_buff *skb)
{
	struct packet p = {};
	int what = arrive(skb, &p);
	return what == NEXT && p.kind == KIND_FLOW ? bypass(skb, &p) : what;
}

// leaving drops what the node itself sends to a Service that drops it: at the socket there is no way to do that.
inline_ int leaving(struct packet *p)
{
	if (discarded(&p->tuple.dst))
		return TC_ACT_SHOT;
	struct frontend *f = find_frontend(&p->tuple.dst, p->tuple.dport, p->tuple.proto);
	if (!f || !f->inside.scope || draining(settings_of(), &p->tuple.dst))
		return NEXT;
	return barred(&f->inside, &p->tuple.src) ? TC_ACT_SHOT : NEXT;
}

inline_ int egress(struct __sk_buff *skb)
{
	struct packet p = {};
	if (skb->mark & FORWARD_MARK)
		skb->mark &= ~FORWARD_MARK; // it has done its duty
	if (skb->tc_index == DEPARTED) {
		skb->tc_index = 0;
		return NEXT;
	}
	parse(skb, &p);
	if (p.kind == KIND_ERROR)
		return error(skb, &p, STAGE_OUT);
	if (p.kind != KIND_FLOW)
		return NEXT;
	p.tuple.stage = STAGE_OUT;
	struct flow *found = bpf_map_lookup_elem(&flows, &p.tuple);
	if (found) {
		depart(skb, &p, found);
		return NEXT;
	}
	if (!opens(&p))
		return NEXT;
	supersede(&p, STAGE_IN);
	return skb->ingress_ifindex == 0 ? leaving(&p) : NEXT;
}
