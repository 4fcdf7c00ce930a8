// Socket level: a process that dials a Service is connected to an endpoint instead, once, and no packet is
// touched. Sockets of network namespaces that are not this node's are left alone.
#pragma once

#include "service.h"

enum action { PASS, REFUSE, REWRITE };

// resolve decides for a socket of this node what becomes of dst:port, and puts the endpoint, or only who refuses, into to.
inline_ enum action resolve(struct bpf_sock_addr *ctx, const struct addr *dst, __be16 port, __u8 proto, struct tally_key *to)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct netns *ns = bpf_map_lookup_elem(&spaces, &cookie);
	if (!ns || passive(settings_of(), dst))
		return PASS;
	bool host = ns->kind == NS_HOST;
	struct frontend *f = find_frontend(dst, port, proto);
	if (!f) {
		// a pod's packets are refused where they come in, with all that a node knows of its own sockets
		struct addr any = {};
		if (!host || !in_cidr(dst, CIDR_SERVICE) || listener(ctx, &any, 0, dst, port, proto) == LISTENER_EXACT)
			return PASS;
		return REFUSE;
	}
	const struct addr *self = is_v4(dst) ? &ns->v4 : &ns->v6;
	struct side *s = &f->inside;
	// what needs the client's real address, or must replace it, is done to its packets
	if (!s->scope || s->verdict == VERDICT_DROP || (s->ranges && !(host && allowed(s, self))))
		return PASS;
	to->origin = s->origin;
	if (s->verdict == VERDICT_REJECT)
		return REFUSE;
	if (!host && s->masquerade == MASQ_EVERYBODY)
		return PASS;
	// there is no port yet, so nothing is known of this connection on other nodes
	__u64 hash = mix(SEED, bpf_get_socket_cookie(ctx));
	if (!choose(s, self, hash, &to->slot)) {
		f = find_frontend(dst, port, proto);
		if (!f)
			return REFUSE;
		to->origin = f->inside.origin;
		if (!choose(&f->inside, self, hash, &to->slot))
			return REFUSE;
	}
	if (!host && same(&to->slot.addr, self))
		return PASS;
	return REWRITE;
}

// have_retval is false before Linux 6.1: there a program can refuse, but EPERM is all that comes of it.
const volatile bool have_retval = true;

// nowhere is where no socket can be: a connection to port 0 of the loopback address is refused by the kernel itself, at
// once and in every namespace. (A datagram to port 0 that sendmsg is given is EINVAL.)
inline_ enum action nowhere(struct addr *dst, __be16 *port)
{
	*dst = is_v4(dst) ? mapped(bpf_htonl(0x7f000001)) : (struct addr){{0, 0, 0, bpf_htonl(1)}};
	*port = 0;
	return REWRITE;
}

inline_ bool same_slot(const struct slot *a, const struct slot *b)
{
	return same(&a->addr, &b->addr) && a->port == b->port && a->proto == b->proto;
}

// meet notes that a socket has dialled the Service at dialled and got the endpoint to.
inline_ void meet(struct bpf_sock_addr *ctx, const struct tally_key *to, struct slot *dialled)
{
	struct peer_key peer = {.cookie = bpf_get_socket_cookie(ctx), .slot = to->slot};
	struct slot *known = dialled->proto == IPPROTO_UDP ? bpf_map_lookup_elem(&peers, &peer) : 0;
	bool held = known && known->held, again = known && same_slot(known, dialled);
	// one datagram after the other makes no new connection
	if (again && held >= dialled->held)
		return;
	if (dialled->held && !held)
		burden(&to->slot, 1);
	dialled->held |= held;
	bpf_map_update_elem(&peers, &peer, dialled, BPF_ANY);
	struct tally *t = again ? 0 : tally_of(to);
	if (t)
		add(&t->sockets, 1);
}

// forget is the end of what a socket has with an endpoint.
inline_ void forget(const struct peer_key *peer)
{
	struct slot *known = bpf_map_lookup_elem(&peers, peer);
	if (!known)
		return;
	bool held = known->held;
	if (!bpf_map_delete_elem(&peers, peer) && held)
		burden(&peer->slot, -1);
}

// part notes that a socket of UDP has dialled an endpoint itself: from now on it answers under its own address.
inline_ void part(struct bpf_sock_addr *ctx, const struct addr *dst, __be16 port)
{
	struct peer_key peer = {.cookie = bpf_get_socket_cookie(ctx), .slot = {.addr = *dst, .port = port}};
	forget(&peer);
}

// dial is connect and sendmsg. It returns the action, with *dst and *port replaced for REWRITE.
inline_ enum action dial(struct bpf_sock_addr *ctx, struct addr *dst, __be16 *port, bool connects)
{
	struct tally_key to = {};
	__u8 proto = ctx->protocol;
	struct slot dialled = {.addr = *dst, .port = *port, .proto = proto, .held = connects};
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return PASS;
	enum action what = resolve(ctx, dst, *port, proto, &to);
	if (what == PASS && proto == IPPROTO_UDP)
		part(ctx, dst, *port);
	if (what == REFUSE) {
		struct tally *t = to.origin ? tally_of(&to) : 0;
		if (t)
			add(&t->sockets, 1);
		count(COUNT_SOCKET_REFUSED);
		if (!have_retval)
			return nowhere(dst, port);
		bpf_set_retval(-111); // ECONNREFUSED
	}
	if (what == REWRITE) {
		count(COUNT_SOCKET_REWRITTEN);
		meet(ctx, &to, &dialled);
		*dst = to.slot.addr;
		*port = to.slot.port;
	}
	return what;
}

// undial gives back the Service's address where the program asks for its peer's.
inline_ bool undial(struct bpf_sock_addr *ctx, struct addr *addr, __be16 *port)
{
	struct peer_key peer = {.cookie = bpf_get_socket_cookie(ctx), .slot = {.addr = *addr, .port = *port}};
	struct slot *dialled = bpf_map_lookup_elem(&peers, &peer);
	if (!dialled)
		return false;
	*addr = dialled->addr;
	*port = dialled->port;
	return true;
}

inline_ struct addr user_ip6(struct bpf_sock_addr *ctx)
{
	return (struct addr){{ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]}};
}

inline_ void set_user_ip6(struct bpf_sock_addr *ctx, const struct addr *a)
{
	ctx->user_ip6[0] = a->w[0];
	ctx->user_ip6[1] = a->w[1];
	ctx->user_ip6[2] = a->w[2];
	ctx->user_ip6[3] = a->w[3];
}

inline_ int dial4(struct bpf_sock_addr *ctx, bool connects)
{
	struct addr dst = mapped(ctx->user_ip4);
	__be16 port = ctx->user_port;
	enum action what = dial(ctx, &dst, &port, connects);
	if (what == REWRITE) {
		ctx->user_ip4 = dst.w[3];
		ctx->user_port = port;
	}
	return what != REFUSE;
}

inline_ int dial6(struct bpf_sock_addr *ctx, bool connects)
{
	struct addr dst = user_ip6(ctx);
	__be16 port = ctx->user_port;
	enum action what = dial(ctx, &dst, &port, connects);
	if (what == REWRITE) {
		set_user_ip6(ctx, &dst);
		ctx->user_port = port;
	}
	return what != REFUSE;
}

inline_ int undial4(struct bpf_sock_addr *ctx)
{
	struct addr addr = mapped(ctx->user_ip4);
	__be16 port = ctx->user_port;
	if (undial(ctx, &addr, &port)) {
		ctx->user_ip4 = addr.w[3];
		ctx->user_port = port;
	}
	return 1;
}

inline_ int undial6(struct bpf_sock_addr *ctx)
{
	struct addr addr = user_ip6(ctx);
	__be16 port = ctx->user_port;
	if (undial(ctx, &addr, &port)) {
		set_user_ip6(ctx, &addr);
		ctx->user_port = port;
	}
	return 1;
}

// keep_node_port refuses a socket of the node's own namespace the port that a Service has on this node.
inline_ int keep_node_port(struct bpf_sock *ctx, struct addr *addr, bool any)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct netns *ns = bpf_map_lookup_elem(&spaces, &cookie);
	struct settings *set = settings_of();
	__u16 port = ctx->src_port; // host byte order
	if (!ns || !set || set->role == ROLE_PASSIVE || ns->kind != NS_HOST || port < set->node_port_first || port > set->node_port_last)
		return 1;
	if (find_frontend(any ? &set->node[0] : addr, bpf_htons(port), ctx->protocol) ||
	    (any && find_frontend(&set->node[1], bpf_htons(port), ctx->protocol))) {
		count(COUNT_PORT_KEPT);
		if (have_retval)
			bpf_set_retval(-98); // EADDRINUSE
		return 0;
	}
	return 1;
}
