// What socket and packet level have in common: finding the frontend of an address and an endpoint for a client.
#pragma once

#include "schedule.h"

#define SECOND 1000000000ULL
#define UDP_IDLE (120 * SECOND)

inline_ bool is_v4(const struct addr *a)
{
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == bpf_htonl(0xffff);
}

inline_ bool same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

inline_ struct addr mapped(__u32 v4)
{
	return (struct addr){{0, 0, bpf_htonl(0xffff), v4}};
}

inline_ void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&event_counters, &reason);
	if (n)
		*n += 1;
}

// counters_of finds what this processor has counted, and makes the counters where there are none; null when memory is short.
inline_ struct counters *counters_of(const struct counter_key *key)
{
	struct counters none = {};
	struct counters *t = bpf_map_lookup_elem(&service_counter, key);
	if (t)
		return t;
	bpf_map_update_elem(&service_counter, key, &none, BPF_NOEXIST);
	t = bpf_map_lookup_elem(&service_counter, key);
	if (!t)
		count(COUNT_UNCOUNTED);
	return t;
}

// add is for what may be interrupted by another program on the same processor.
#define add(to, n) ((void)__sync_fetch_and_add(to, n))

inline_ struct settings *settings_of(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&config, &zero);
}

// probe is an address that nobody has (RFC 7600). A draining data plane serves it, too, so that it can be proven.
#define PROBE_V4 bpf_htonl(0xc0000008)

// Where connections are led that are to get no answer: nothing to these addresses leaves the node (RFC 7600, RFC 6666).
#define DISCARD_V4 PROBE_V4
#define DISCARD_V6 {{bpf_htonl(0x01000000), 0, 0, bpf_htonl(8)}}

inline_ bool discarded(const struct addr *dst)
{
	struct addr v6 = DISCARD_V6;
	return is_v4(dst) ? dst->w[3] == DISCARD_V4 : same(dst, &v6);
}

// draining says that new connections to dst are left to another data plane.
inline_ bool draining(const struct settings *set, const struct addr *dst)
{
	return !set || (set->role == ROLE_DRAINING && !(is_v4(dst) && dst->w[3] == PROBE_V4));
}

inline_ struct frontend *find_frontend(const struct addr *addr, __be16 port, __u8 proto)
{
	struct frontend_key key = {.addr = *addr, .port = port, .proto = proto};
	struct frontend *f = bpf_map_lookup_elem(&frontends, &key);
	// where svcplane itself listens is no Service's, whatever the table says
	return f && bpf_map_lookup_elem(&own_listeners, &key) ? 0 : f;
}

inline_ bool in_cidr(const struct addr *addr, __u32 kind)
{
	struct cidr_key key = {.bits = 128, .addr = *addr};
	__u32 *found = bpf_map_lookup_elem(&cidrs, &key);
	return found && (*found & kind);
}

// allowed says whether the source ranges of a side hold the client.
inline_ bool allowed(const struct side *s, const struct addr *client)
{
	struct range_key key = {.bits = 192, .addr = *client};
	if (!s->ranges)
		return true;
	__builtin_memcpy(key.ranges, &s->ranges, sizeof(s->ranges));
	return bpf_map_lookup_elem(&source_ranges, &key) != 0;
}

// barred says whether a side drops what the client sends, and counts why.
inline_ bool barred(const struct side *s, const struct addr *client)
{
	bool out_of_range = !allowed(s, client);
	if (!out_of_range && s->verdict != VERDICT_DROP)
		return false;
	count(out_of_range ? COUNT_DROP_RANGES : COUNT_DROP_VERDICT);
	return true;
}

// remembered finds the endpoint that a client with session affinity had last, if it is still one of the set.
inline_ bool remembered(const struct side *s, const struct affinity_key *key, struct slot *out)
{
	__u64 now = bpf_ktime_get_ns();
	struct affinity_entry *st = bpf_map_lookup_elem(&affinity, key);
	if (!st || now - st->last > s->affinity * SECOND)
		return false;
	struct member_key member = {.set = s->set, .slot = st->slot};
	if (!bpf_map_lookup_elem(&affinity_match, &member))
		return false;
	st->last = now;
	*out = member.slot;
	return true;
}

// choose gives a client an endpoint; 0 when there is none, or the frontend was exchanged at this moment.
static __noinline int choose(const struct side *s, const struct addr *client, __u64 hash, struct slot *out)
{
	struct affinity_key key = {.origin = s->origin, .client = *client};
	if (s->affinity && remembered(s, &key, out))
		return 1;
	struct quest q = {.set = s->set, .hash = hash, .count = s->count};
	if (!schedule(&q, out))
		return 0;
	if (s->affinity) {
		struct affinity_entry st = {.slot = *out, .last = bpf_ktime_get_ns()};
		bpf_map_update_elem(&affinity, &key, &st, BPF_ANY);
	}
	return 1;
}

// chosen finds the endpoint that was chosen for a socket before, if it is still one of the set. A choice is made once: where
// packets are translated instead of the socket, they follow it, and so do the datagrams of a socket that is not connected, as
// long as netfilter would take them for one flow.
inline_ bool chosen(const struct socket_key *asked, const struct side *s, struct slot *out)
{
	__u64 now = bpf_ktime_get_ns();
	struct socket_choice *d = bpf_map_lookup_elem(&socket_choices, asked);
	if (!d || now - d->last > UDP_IDLE)
		return false;
	struct slot ep = d->slot;
	struct quest q = {.set = s->set, .count = s->count};
	if (d->set != s->set && !holds(&q, &ep))
		return false;
	d->set = s->set;
	d->last = now;
	*out = ep;
	return true;
}

inline_ void note_choice(const struct socket_key *asked, const struct slot *ep, __u64 set)
{
	struct socket_choice d = {.slot = *ep, .last = bpf_ktime_get_ns(), .set = set};
	bpf_map_update_elem(&socket_choices, asked, &d, BPF_ANY);
}

// tuple_of fills what the socket lookup helpers take, and returns its size. remote may be zero.
inline_ __u32 tuple_of(struct bpf_sock_tuple *t, const struct addr *remote, __be16 rport, const struct addr *local, __be16 lport)
{
	if (is_v4(local)) {
		t->ipv4.saddr = remote->w[3];
		t->ipv4.daddr = local->w[3];
		t->ipv4.sport = rport;
		t->ipv4.dport = lport;
		return sizeof(t->ipv4);
	}
	__builtin_memcpy(t->ipv6.saddr, remote, sizeof(*remote));
	__builtin_memcpy(t->ipv6.daddr, local, sizeof(*local));
	t->ipv6.sport = rport;
	t->ipv6.dport = lport;
	return sizeof(t->ipv6);
}

enum listener { LISTENER_NONE, LISTENER_ANY, LISTENER_EXACT };

// listener finds a socket of the current namespace that takes such a packet; EXACT when it is bound to the very
// address, ANY when to all of them.
inline_ enum listener listener(void *ctx, const struct addr *remote, __be16 rport, const struct addr *local, __be16 lport, __u8 proto)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	enum listener found = LISTENER_ANY;
	__u32 size = tuple_of(&t, remote, rport, local, lport);
	if (proto == IPPROTO_TCP)
		sk = size == sizeof(t.ipv4) ? bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0)
					    : bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	else
		sk = size == sizeof(t.ipv4) ? bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0)
					    : bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return LISTENER_NONE;
	if (is_v4(local) ? sk->src_ip4 == local->w[3] || sk->src_ip6[3] == local->w[3] : sk->src_ip6[3] == local->w[3])
		found = LISTENER_EXACT;
	bpf_sk_release(sk);
	return found;
}
