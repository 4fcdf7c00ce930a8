// Reading and rewriting packets: one code for IPv4 and IPv6, checksums kept right also where the hardware
// makes them (the helpers know of skb->ip_summed).
#pragma once

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>

#include "service.h"

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define IP_OFFSET 0x1fff
#define IP_MORE 0x2000

#define MAX_EXTENSIONS 4

// icmp_error is the head of an error in ICMP (RFC 792) and ICMPv6 (RFC 4443).
struct icmp_error {
	__u8 type, code;
	__be16 sum;
	__be32 rest;
};

enum icmp4_type { ICMP4_UNREACHABLE = 3, ICMP4_TIME_EXCEEDED = 11, ICMP4_PARAMETER = 12 };
enum icmp6_type { ICMP6_UNREACHABLE = 1, ICMP6_PARAMETER = 4 };
enum icmp_code { ICMP4_PORT_UNREACHABLE = 3, ICMP6_PORT_UNREACHABLE = 4 };

enum kind { KIND_OTHER, KIND_FLOW, KIND_ERROR, KIND_BAD };

// packet is where things are in a packet and what they are. tuple of an error is of the packet that it is about.
struct packet {
	struct flow_key tuple;
	__u16 l3, l4;
	__u16 inner3, inner4; // of an ICMP error
	__u8 kind;
	__u8 flags; // TCP
	__u8 v6; // 0 or 1
	bool later; // a fragment without ports
	bool translated;
	bool forward; // to an endpoint
	__u16 link; // of the flow by which it was translated
	bool plain; // nothing between the IP header and what it carries
};

// network is what one IP header says.
struct network {
	struct addr src, dst;
	__u32 id;
	__u16 l4;
	__u8 proto;
	bool first, later; // fragments
	bool plain;
};

// EARLY_MOST is how far into a packet XDP looks; what has more headers passes.
#define EARLY_MOST 256

// load copies size bytes of a packet, which an xdp_md holds or, when xdp is false, a __sk_buff; not 0 when they are not
// there. It is known for each program which of the two, so only one of the ways is compiled.
inline_ long load(void *ctx, bool xdp, __u32 at, void *to, __u32 size)
{
	if (!xdp)
		return bpf_skb_load_bytes(ctx, at, to, size);
	struct xdp_md *md = ctx;
	void *data = (void *)(long)md->data, *end = (void *)(long)md->data_end;
	if (at > EARLY_MOST || data + at + size > end)
		return -1;
	__builtin_memcpy(to, data + at, size);
	return 0;
}

inline_ bool read_v4(void *ctx, bool xdp, __u16 at, struct network *n)
{
	struct iphdr ip;
	if (load(ctx, xdp, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return false;
	__u16 off = bpf_ntohs(ip.frag_off);
	n->src = mapped(ip.saddr);
	n->dst = mapped(ip.daddr);
	n->proto = ip.protocol;
	n->id = ip.id;
	n->l4 = at + ip.ihl * 4;
	n->plain = ip.ihl == 5;
	n->later = off & IP_OFFSET;
	n->first = !n->later && (off & IP_MORE);
	return true;
}

struct extension {
	__u8 next, len;
	__be16 off;
	__be32 id;
};

inline_ bool read_v6(void *ctx, bool xdp, __u16 at, struct network *n)
{
	struct ipv6hdr ip;
	if (load(ctx, xdp, at, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	__builtin_memcpy(&n->src, &ip.saddr, 16);
	__builtin_memcpy(&n->dst, &ip.daddr, 16);
	__u8 next = ip.nexthdr;
	__u16 l4 = at + sizeof(ip);
	n->plain = true;

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		struct extension ext;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT)
			break;
		if (load(ctx, xdp, l4, &ext, sizeof(ext)))
			return false;
		n->plain = false;
		if (next == IPPROTO_FRAGMENT) {
			n->id = ext.id;
			n->later = bpf_ntohs(ext.off) & 0xfff8;
			n->first = !n->later && (bpf_ntohs(ext.off) & 1);
			l4 += 8;
		} else {
			l4 += (ext.len + 1) * 8;
		}
		next = ext.next;
		if (n->later)
			break;
	}
	n->proto = next;
	n->l4 = l4;
	return true;
}

// read_ports reads the ports of the packet, or those of the fragment that had them.
inline_ bool read_ports(void *ctx, bool xdp, struct network *n, struct fragment *ports)
{
	struct fragment_key key = {.src = n->src, .dst = n->dst, .id = n->id, .proto = n->proto};
	if (n->later) {
		struct fragment *known = bpf_map_lookup_elem(&fragments, &key);
		if (!known)
			return false;
		*ports = *known;
		return true;
	}
	if (load(ctx, xdp, n->l4, ports, sizeof(*ports)))
		return false;
	if (n->first && !xdp) // tc sees it, too, when it passes
		bpf_map_update_elem(&fragments, &key, ports, BPF_ANY);
	return true;
}

inline_ bool read_network(void *ctx, bool xdp, bool v6, __u16 at, struct network *n)
{
	return v6 ? read_v6(ctx, xdp, at, n) : read_v4(ctx, xdp, at, n);
}

inline_ void set_tuple(struct packet *p, const struct network *n, const struct fragment *ports)
{
	p->tuple.src = n->src;
	p->tuple.dst = n->dst;
	p->tuple.proto = n->proto;
	p->tuple.sport = ports->sport;
	p->tuple.dport = ports->dport;
}

inline_ bool is_error(bool v6, __u8 type)
{
	if (v6)
		return type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER;
	return type == ICMP4_UNREACHABLE || type == ICMP4_TIME_EXCEEDED || type == ICMP4_PARAMETER;
}

// read_error reads the packet that an ICMP error is about.
inline_ __u8 read_error(void *ctx, bool xdp, struct packet *p, __u8 proto)
{
	struct network n = {};
	struct fragment ports;
	__u8 type;
	if (proto != (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return KIND_OTHER;
	if (load(ctx, xdp, p->l4, &type, 1) || !is_error(p->v6, type))
		return KIND_OTHER;
	p->inner3 = p->l4 + 8;
	if (!read_network(ctx, xdp, p->v6, p->inner3, &n) || n.later || (n.proto != IPPROTO_TCP && n.proto != IPPROTO_UDP))
		return KIND_OTHER;
	p->inner4 = n.l4;
	if (load(ctx, xdp, n.l4, &ports, sizeof(ports)))
		return KIND_OTHER;
	set_tuple(p, &n, &ports);
	return KIND_ERROR;
}

// parse_from reads a packet of a protocol (ETH_P_IP or ETH_P_IPV6; others are left alone).
inline_ void parse_from(void *ctx, bool xdp, __be16 protocol, struct packet *p)
{
	struct network n = {};
	struct fragment ports = {};
	p->kind = KIND_OTHER;
	if (protocol == bpf_htons(ETH_P_IPV6))
		p->v6 = 1;
	else if (protocol != bpf_htons(ETH_P_IP))
		return;
	p->l3 = ETH_HLEN;
	if (!read_network(ctx, xdp, p->v6, p->l3, &n))
		return;
	p->l4 = n.l4;
	p->later = n.later;
	p->plain = n.plain && !n.first && !n.later;
	if (n.proto != IPPROTO_TCP && n.proto != IPPROTO_UDP) {
		if (!n.later)
			p->kind = read_error(ctx, xdp, p, n.proto);
		return;
	}
	if (!read_ports(ctx, xdp, &n, &ports))
		return;
	set_tuple(p, &n, &ports);
	// a header that is cut off is nobody's flow: nothing of it may be rewritten
	__u8 byte = 0;
	__u16 last = n.l4 + (n.later ? -1 : n.proto == IPPROTO_TCP ? 19 : 7);
	if (load(ctx, xdp, last, &byte, 1)) {
		p->kind = KIND_BAD;
		return;
	}
	if (n.proto == IPPROTO_TCP && !n.later && load(ctx, xdp, n.l4 + 13, &p->flags, 1))
		return;
	p->kind = KIND_FLOW;
}

static __noinline void parse_any(struct __sk_buff *skb, struct packet *p)
{
	parse_from(skb, false, skb->protocol, p);
}

#define IP_PLAIN 0x45 // version 4, no options

// parse_plain reads what most packets are, IPv4 without options and fragments, where it lies; false for all others.
inline_ bool parse_plain(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)tcp + sizeof(struct udphdr) > end)
		return false;
	if (*(__u8 *)ip != IP_PLAIN || (ip->frag_off & bpf_htons(IP_OFFSET | IP_MORE)))
		return false;
	if (ip->protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end)
			return false;
		p->flags = ((__u8 *)tcp)[13];
	} else if (ip->protocol != IPPROTO_UDP) {
		return false;
	}
	p->tuple.src = mapped(ip->saddr);
	p->tuple.dst = mapped(ip->daddr);
	p->tuple.proto = ip->protocol;
	p->tuple.sport = tcp->source;
	p->tuple.dport = tcp->dest;
	p->l3 = ETH_HLEN;
	p->l4 = ETH_HLEN + sizeof(*ip);
	p->plain = true;
	p->kind = KIND_FLOW;
	return true;
}

inline_ void parse(struct __sk_buff *skb, struct packet *p)
{
	if (!parse_plain(skb, p))
		parse_any(skb, p);
}

inline_ __u16 checksum_at(__u8 proto, __u16 l4)
{
	return l4 + (proto == IPPROTO_TCP ? offsetof(struct tcphdr, check) : offsetof(struct udphdr, check));
}

// put_addr exchanges an address of the header at l3; the sum at l4sum, when not 0, covers it.
inline_ void put_addr(struct __sk_buff *skb, bool v6, __u16 l3, bool src, const struct addr *old, const struct addr *now, __u16 l4sum, __u64 flags)
{
	__s64 diff;
	if (v6) {
		diff = bpf_csum_diff((__be32 *)old->w, 16, (__be32 *)now->w, 16, 0);
		bpf_skb_store_bytes(skb, l3 + (src ? 8 : 24), now->w, 16, 0);
	} else {
		diff = bpf_csum_diff((__be32 *)&old->w[3], 4, (__be32 *)&now->w[3], 4, 0);
		bpf_skb_store_bytes(skb, l3 + (src ? 12 : 16), &now->w[3], 4, 0);
		bpf_l3_csum_replace(skb, l3 + offsetof(struct iphdr, check), 0, diff, 0);
	}
	if (l4sum)
		bpf_l4_csum_replace(skb, l4sum, 0, diff, flags);
}

inline_ void put_port(struct __sk_buff *skb, __u16 at, __be16 old, __be16 now, __u16 sum, __u64 flags)
{
	bpf_skb_store_bytes(skb, at, &now, 2, 0);
	bpf_l4_csum_replace(skb, sum, old, now, 2 | flags);
}

// FORWARD_MARK is proxy.ForwardMark: netfilter's rules about forwarding let such a packet pass.
#define FORWARD_MARK 0x1000

// rewrite gives a packet the address to:port at one end and, when other is not 0, the port other at the other.
static __noinline void rewrite(struct __sk_buff *skb, const struct packet *p, const struct flow *f, bool src)
{
	__u64 zero = p->tuple.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u16 sum = p->later ? 0 : checksum_at(p->tuple.proto, p->l4);
	if (!src)
		skb->mark |= FORWARD_MARK;
	const struct addr *old = src ? &p->tuple.src : &p->tuple.dst;
	if (!same(old, &f->to))
		put_addr(skb, p->v6, p->l3, src, old, &f->to, sum, BPF_F_PSEUDO_HDR | zero);
	if (p->later)
		return;
	__be16 near = src ? p->tuple.sport : p->tuple.dport, far = src ? p->tuple.dport : p->tuple.sport;
	if (near != f->port)
		put_port(skb, p->l4 + (src ? 0 : 2), near, f->port, sum, zero);
	if (f->other && far != f->other)
		put_port(skb, p->l4 + (src ? 2 : 0), far, f->other, sum, zero);
}

// rewrite_error does to an ICMP error what rewrite does to the packets of the other direction, inside and out.
// src says which end of the error itself is exchanged; the packet inside went the other way.
static __noinline void rewrite_error(struct __sk_buff *skb, const struct packet *p, const struct flow *f, bool src, const struct addr *outer)
{
	__u16 sum = p->l4 + 2;
	if (!src)
		skb->mark |= FORWARD_MARK;
	const struct addr *old = src ? &p->tuple.dst : &p->tuple.src;
	__be16 near = src ? p->tuple.dport : p->tuple.sport, far = src ? p->tuple.sport : p->tuple.dport;
	// IPv4's sum of the header inside takes back what its address adds to the sum of the message
	put_addr(skb, p->v6, p->inner3, !src, old, &f->to, p->v6 ? sum : 0, 0);
	if (near != f->port)
		put_port(skb, p->inner4 + (src ? 2 : 0), near, f->port, sum, 0);
	if (f->other && far != f->other)
		put_port(skb, p->inner4 + (src ? 0 : 2), far, f->other, sum, 0);
	if (same(outer, old))
		put_addr(skb, p->v6, p->l3, src, outer, &f->to, p->v6 ? sum : 0, BPF_F_PSEUDO_HDR);
}
