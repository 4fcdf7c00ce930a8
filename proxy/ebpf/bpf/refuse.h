// Refusing at packet level: the packet is turned into its own answer, a TCP reset or an ICMP "port unreachable",
// and sent back where it came from.
#pragma once

#include "parse.h"

inline_ __u16 fold(__s64 sum)
{
	__u32 s = (__u32)sum;
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return (__u16)~s;
}

// pseudo is the sum of the pseudo header (RFC 768, RFC 8200 8.1); the order of the addresses does not matter.
inline_ __s64 pseudo(const struct packet *p, __u8 proto, __u16 len)
{
	__be32 tail[2] = {bpf_htonl(len), bpf_htonl(proto)};
	__s64 sum = bpf_csum_diff(0, 0, tail, sizeof(tail), 0);
	if (p->v6) {
		sum = bpf_csum_diff(0, 0, (__be32 *)p->tuple.src.w, 16, sum);
		return bpf_csum_diff(0, 0, (__be32 *)p->tuple.dst.w, 16, sum);
	}
	sum = bpf_csum_diff(0, 0, (__be32 *)&p->tuple.src.w[3], 4, sum);
	return bpf_csum_diff(0, 0, (__be32 *)&p->tuple.dst.w[3], 4, sum);
}

inline_ void turn_ethernet(struct __sk_buff *skb)
{
	struct ethhdr eth;
	__u8 mac[ETH_ALEN];
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return;
	__builtin_memcpy(mac, eth.h_dest, ETH_ALEN);
	__builtin_memcpy(eth.h_dest, eth.h_source, ETH_ALEN);
	__builtin_memcpy(eth.h_source, mac, ETH_ALEN);
	bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0);
}

// turn_network writes an IP header for an answer of len bytes.
inline_ void turn_network(struct __sk_buff *skb, const struct packet *p, __u8 proto, __u16 len)
{
	if (p->v6) {
		struct ipv6hdr ip = {.version = 6, .nexthdr = proto, .hop_limit = 64, .payload_len = bpf_htons(len)};
		__builtin_memcpy(&ip.saddr, &p->tuple.dst, 16);
		__builtin_memcpy(&ip.daddr, &p->tuple.src, 16);
		bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0);
		return;
	}
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = proto, .tot_len = bpf_htons(len + sizeof(ip)),
			   .frag_off = bpf_htons(0x4000), .saddr = p->tuple.dst.w[3], .daddr = p->tuple.src.w[3]};
	ip.check = fold(bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
	bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0);
}

static __noinline int reset(struct __sk_buff *skb, const struct packet *p)
{
	struct tcphdr tcp = {}, was;
	__u16 l4 = ETH_HLEN + (p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	if (bpf_skb_load_bytes(skb, p->l4, &was, sizeof(was)))
		return TC_ACT_SHOT;
	tcp.source = p->tuple.dport;
	tcp.dest = p->tuple.sport;
	tcp.ack_seq = bpf_htonl(bpf_ntohl(was.seq) + 1); // only what opens a connection is refused (RFC 9293, 3.10.7.1)
	tcp.doff = sizeof(tcp) / 4;
	tcp.rst = 1;
	tcp.ack = 1;
	if (bpf_skb_change_tail(skb, l4 + sizeof(tcp), 0))
		return TC_ACT_SHOT;
	tcp.check = fold(bpf_csum_diff(0, 0, (__be32 *)&tcp, sizeof(tcp), pseudo(p, IPPROTO_TCP, sizeof(tcp))));
	turn_ethernet(skb);
	turn_network(skb, p, IPPROTO_TCP, sizeof(tcp));
	bpf_skb_store_bytes(skb, l4, &tcp, sizeof(tcp), 0);
	return bpf_redirect(skb->ifindex, 0);
}

// An ICMP error carries the IP header and the first 8 bytes of what it is about.
struct unreachable4 {
	struct icmp_error icmp;
	__u8 inner[sizeof(struct iphdr) + 8];
};

struct unreachable6 {
	struct icmp_error icmp;
	__u8 inner[sizeof(struct ipv6hdr) + 8];
};

static __noinline int unreachable_v4(struct __sk_buff *skb, const struct packet *p)
{
	struct unreachable4 m = {.icmp = {.type = ICMP4_UNREACHABLE, .code = ICMP4_PORT_UNREACHABLE}};
	if (bpf_skb_load_bytes(skb, ETH_HLEN, m.inner, sizeof(m.inner)) ||
	    bpf_skb_change_tail(skb, ETH_HLEN + sizeof(struct iphdr) + sizeof(m), 0))
		return TC_ACT_SHOT;
	m.icmp.sum = fold(bpf_csum_diff(0, 0, (__be32 *)&m, sizeof(m), 0));
	turn_ethernet(skb);
	turn_network(skb, p, IPPROTO_ICMP, sizeof(m));
	bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &m, sizeof(m), 0);
	return bpf_redirect(skb->ifindex, 0);
}

static __noinline int unreachable_v6(struct __sk_buff *skb, const struct packet *p)
{
	struct unreachable6 m = {.icmp = {.type = ICMP6_UNREACHABLE, .code = ICMP6_PORT_UNREACHABLE}};
	if (bpf_skb_load_bytes(skb, ETH_HLEN, m.inner, sizeof(m.inner)) ||
	    bpf_skb_change_tail(skb, ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(m), 0))
		return TC_ACT_SHOT;
	m.icmp.sum = fold(bpf_csum_diff(0, 0, (__be32 *)&m, sizeof(m), pseudo(p, IPPROTO_ICMPV6, sizeof(m))));
	turn_ethernet(skb);
	turn_network(skb, p, IPPROTO_ICMPV6, sizeof(m));
	bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), &m, sizeof(m), 0);
	return bpf_redirect(skb->ifindex, 0);
}

// refuse answers what opens a connection; a packet with options or in fragments gets no answer.
inline_ int refuse(struct __sk_buff *skb, const struct packet *p)
{
	count(COUNT_PACKET_REFUSED);
	if (!p->plain)
		return TC_ACT_SHOT;
	if (p->tuple.proto == IPPROTO_TCP)
		return reset(skb, p);
	return p->v6 ? unreachable_v6(skb, p) : unreachable_v4(skb, p);
}
