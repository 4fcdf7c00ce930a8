// Socket level: a process that dials a Service is connected to an endpoint instead, once, and no packet is
// touched. Sockets of network namespaces that are not this node's are left alone.
#pragma once

#include "service.h"

enum action { PASS, REFUSE, REWRITE };

// resolve decides for a socket of this node what becomes of dst:port, and puts the endpoint into ep.
inline_ enum action resolve(struct bpf_sock_addr *ctx, const struct addr *dst, __be16 port, __u8 proto, struct slot *ep)
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
	if (s->verdict == VERDICT_REJECT)
		return REFUSE;
	if (!host && s->masquerade == MASQ_EVERYBODY)
		return PASS;
	if (!choose(s, self, ep)) {
		f = find_frontend(dst, port, proto);
		if (!f || !choose(&f->inside, self, ep))
			return REFUSE;
	}
	if (!host && same(&ep->addr, self))
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

// dial is connect and sendmsg. It returns the action, with *dst and *port replaced for REWRITE.
inline_ enum action dial(struct bpf_sock_addr *ctx, struct addr *dst, __be16 *port)
{
	struct peer_key peer = {.cookie = bpf_get_socket_cookie(ctx)};
	__u8 proto = ctx->protocol;
	struct slot dialled = {.addr = *dst, .port = *port, .proto = proto};
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return PASS;
	enum action what = resolve(ctx, dst, *port, proto, &peer.slot);
	if (what == PASS && proto == IPPROTO_UDP) {
		// the endpoint itself was dialled: from now on it answers under its own address
		peer.slot.addr = *dst;
		peer.slot.port = *port;
		if (bpf_map_lookup_elem(&peers, &peer))
			bpf_map_delete_elem(&peers, &peer);
	}
	if (what == REFUSE) {
		count(COUNT_SOCKET_REFUSED);
		if (!have_retval)
			return nowhere(dst, port);
		bpf_set_retval(-111); // ECONNREFUSED
	}
	if (what == REWRITE) {
		count(COUNT_SOCKET_REWRITTEN);
		bpf_map_update_elem(&peers, &peer, &dialled, BPF_ANY);
		*dst = peer.slot.addr;
		*port = peer.slot.port;
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

inline_ int dial4(struct bpf_sock_addr *ctx)
{
	struct addr dst = mapped(ctx->user_ip4);
	__be16 port = ctx->user_port;
	enum action what = dial(ctx, &dst, &port);
	if (what == REWRITE) {
		ctx->user_ip4 = dst.w[3];
		ctx->user_port = port;
	}
	return what != REFUSE;
}

inline_ int dial6(struct bpf_sock_addr *ctx)
{
	struct addr dst = user_ip6(ctx);
	__be16 port = ctx->user_port;
	enum action what = dial(ctx, &dst, &port);
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
