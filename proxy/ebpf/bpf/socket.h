// Socket level: a process that dials a Service is connected to an endpoint instead, once, and no packet is
// touched. Sockets of network namespaces that are not this node's are left alone.
#pragma once

#include "service.h"

// REFUSE is ECONNREFUSED at connect(). A connection that is to be dropped is SWALLOWed, and a datagram DENYed (EPERM), as
// netfilter does with what it does not let out.
enum action { PASS, REFUSE, DENY, SWALLOW, REWRITE };

// refusal is how a client is refused. A datagram of a pod's socket that is not connected is refused as a packet, by an ICMP error
// that the socket reads only if it asks for it. One of the node's own sockets would not leave the node: it is EPERM in dial.
inline_ enum action refusal(bool host, const struct slot *dialled)
{
	return host || dialled->held ? REFUSE : PASS;
}

// choose_endpoint gives a socket an endpoint of a Service; false when there is none.
inline_ bool choose_endpoint(struct bpf_sock_addr *ctx, const struct slot *dialled, const struct side *s, const struct netns *ns, struct counter_key *to)
{
	bool host = ns->kind == NS_HOST;
	const struct addr *self = is_v4(&dialled->addr) ? &ns->v4 : &ns->v6;
	struct socket_key asked = {.cookie = bpf_get_socket_cookie(ctx), .slot = *dialled};
	asked.slot.held = 0;
	to->origin = s->origin;
	if (!dialled->held && chosen(&asked, s, &to->slot))
		return true;
	// there is no port yet, so nothing is known of this connection on other nodes
	__u64 hash = mix(SEED, asked.cookie);
	if (!choose(s, self, hash, &to->slot)) {
		struct frontend *f = find_frontend(&dialled->addr, dialled->port, dialled->proto);
		if (!f)
			return false;
		to->origin = f->inside.origin;
		if (!choose(&f->inside, self, hash, &to->slot))
			return false;
	}
	if (!dialled->held || (!host && same(&to->slot.addr, self)))
		note_choice(&asked, &to->slot, s->set);
	return true;
}

// resolve decides for a socket of this node what becomes of dst:port, and puts the endpoint into to; of a refusal, the Service.
inline_ enum action resolve(struct bpf_sock_addr *ctx, const struct slot *dialled, struct counter_key *to)
{
	const struct addr *dst = &dialled->addr;
	__be16 port = dialled->port;
	__u8 proto = dialled->proto;
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct netns *ns = bpf_map_lookup_elem(&netns, &cookie);
	if (!ns || draining(settings_of(), dst))
		return PASS;
	bool host = ns->kind == NS_HOST;
	struct frontend *f = find_frontend(dst, port, proto);
	if (!f) {
		// a pod's packets are refused where they come in, with all that a node knows of its own sockets
		struct addr any = {};
		if (!host || !in_cidr(dst, CIDR_SERVICE) || listener(ctx, &any, 0, dst, port, proto) == LISTENER_EXACT)
			return PASS;
		return refusal(host, dialled);
	}
	const struct addr *self = is_v4(dst) ? &ns->v4 : &ns->v6;
	struct side *s = &f->inside;
	// what the node itself sends may never leave it by a link
	if (host && s->scope && barred(s, self))
		return dialled->held ? SWALLOW : DENY;
	// what needs the client's real address, or must replace it, is done to its packets
	if (!s->scope || s->verdict == VERDICT_DROP || (s->ranges && !(host && allowed(s, self))))
		return PASS;
	to->origin = s->origin;
	if (s->verdict == VERDICT_REJECT)
		return refusal(host, dialled);
	if (!host && s->masquerade == MASQ_EVERYBODY)
		return PASS;
	if (!choose_endpoint(ctx, dialled, s, ns, to))
		return refusal(host, dialled);
	if (!host && same(&to->slot.addr, self))
		return PASS;
	return REWRITE;
}

// have_retval is false before Linux 6.1: there a program can refuse, but EPERM is all that comes of it.
const volatile bool have_retval = true;

// nowhere is where no socket can be: a connection to port 0 of the loopback address is refused by the kernel itself, at
// once and in every namespace.
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
inline_ void meet(struct bpf_sock_addr *ctx, const struct counter_key *to, struct slot *dialled)
{
	struct socket_key peer = {.cookie = bpf_get_socket_cookie(ctx), .slot = to->slot};
	struct slot *known = dialled->proto == IPPROTO_UDP ? bpf_map_lookup_elem(&socket_revnat, &peer) : 0;
	bool held = known && known->held, again = known && same_slot(known, dialled);
	// one datagram after the other makes no new connection
	if (again && held >= dialled->held)
		return;
	if (dialled->held && !held)
		add_conns(&to->slot, 1);
	dialled->held |= held;
	bpf_map_update_elem(&socket_revnat, &peer, dialled, BPF_ANY);
	struct counters *t = again ? 0 : counters_of(to);
	if (t)
		add(&t->sockets, 1);
}

// forget removes what is noted about a socket and an endpoint.
inline_ void forget(const struct socket_key *peer)
{
	struct slot *known = bpf_map_lookup_elem(&socket_revnat, peer);
	if (!known)
		return;
	bool held = known->held;
	if (!bpf_map_delete_elem(&socket_revnat, peer) && held)
		add_conns(&peer->slot, -1);
}

// part notes that a socket of UDP has dialled an endpoint itself: from now on it answers under its own address.
inline_ void part(struct bpf_sock_addr *ctx, const struct addr *dst, __be16 port)
{
	struct socket_key peer = {.cookie = bpf_get_socket_cookie(ctx), .slot = {.addr = *dst, .port = port}};
	forget(&peer);
}

// dial is connect and sendmsg. It returns the action, with *dst and *port replaced for REWRITE.
inline_ enum action dial(struct bpf_sock_addr *ctx, struct addr *dst, __be16 *port, bool connects)
{
	struct counter_key to = {};
	__u8 proto = ctx->protocol;
	struct slot dialled = {.addr = *dst, .port = *port, .proto = proto, .held = connects};
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return PASS;
	enum action what = resolve(ctx, &dialled, &to);
	if (what == PASS && proto == IPPROTO_UDP)
		part(ctx, dst, *port);
	if (what == SWALLOW) {
		*dst = is_v4(dst) ? mapped(DISCARD_V4) : (struct addr)DISCARD_V6;
		return REWRITE;
	}
	if (what == REFUSE) {
		struct counters *t = to.origin ? counters_of(&to) : 0;
		if (t)
			add(&t->sockets, 1);
		count(COUNT_SOCKET_REFUSED);
		if (!connects)
			return DENY;
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
	struct socket_key peer = {.cookie = bpf_get_socket_cookie(ctx), .slot = {.addr = *addr, .port = *port}};
	struct slot *dialled = bpf_map_lookup_elem(&socket_revnat, &peer);
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
	return what != REFUSE && what != DENY;
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
	return what != REFUSE && what != DENY;
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
	struct netns *ns = bpf_map_lookup_elem(&netns, &cookie);
	struct settings *set = settings_of();
	__u16 port = ctx->src_port; // host byte order
	if (!ns || !set || set->role == ROLE_DRAINING || ns->kind != NS_HOST || port < set->node_port_first || port > set->node_port_last)
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
