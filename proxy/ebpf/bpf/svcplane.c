// The programs of the eBPF data plane; doc.go of the package has the picture.
#include "socket.h"
#include "packet.h"
#include "xdp.h"

SEC("cgroup/connect4") int svc_connect4(struct bpf_sock_addr *ctx) { return dial4(ctx, true); }
SEC("cgroup/connect6") int svc_connect6(struct bpf_sock_addr *ctx) { return dial6(ctx, true); }
SEC("cgroup/sendmsg4") int svc_sendmsg4(struct bpf_sock_addr *ctx) { return dial4(ctx, false); }
SEC("cgroup/sendmsg6") int svc_sendmsg6(struct bpf_sock_addr *ctx) { return dial6(ctx, false); }
SEC("cgroup/recvmsg4") int svc_recvmsg4(struct bpf_sock_addr *ctx) { return undial4(ctx); }
SEC("cgroup/recvmsg6") int svc_recvmsg6(struct bpf_sock_addr *ctx) { return undial6(ctx); }
SEC("cgroup/getpeername4") int svc_getpeer4(struct bpf_sock_addr *ctx) { return undial4(ctx); }
SEC("cgroup/getpeername6") int svc_getpeer6(struct bpf_sock_addr *ctx) { return undial6(ctx); }

SEC("cgroup/post_bind4") int svc_bind4(struct bpf_sock *ctx)
{
	struct addr addr = mapped(ctx->src_ip4);
	return keep_node_port(ctx, &addr, ctx->src_ip4 == 0);
}

SEC("cgroup/post_bind6") int svc_bind6(struct bpf_sock *ctx)
{
	struct addr addr = {{ctx->src_ip6[0], ctx->src_ip6[1], ctx->src_ip6[2], ctx->src_ip6[3]}};
	return keep_node_port(ctx, &addr, !addr.w[0] && !addr.w[1] && !addr.w[2] && !addr.w[3]);
}

SEC("cgroup/sock_release") int svc_release(struct bpf_sock *ctx)
{
	struct socket_key peer = {.cookie = bpf_get_socket_cookie(ctx)};
	struct addr v6 = {{ctx->dst_ip6[0], ctx->dst_ip6[1], ctx->dst_ip6[2], ctx->dst_ip6[3]}};
	__u32 v4 = ctx->dst_ip4;
	__be16 port = ctx->dst_port;
	if (!port)
		return 1;
	// both are read by now: the verifier wants every field of the context read from its own offset
	asm volatile("" : "+r"(v4));
	peer.slot.port = port;
	peer.slot.addr = ctx->family == 2 ? mapped(v4) : v6;
	forget(&peer);
	return 1;
}

SEC("tc") int svc_ingress(struct __sk_buff *skb) { return ingress(skb); }
SEC("tc") int svc_egress(struct __sk_buff *skb) { return egress(skb); }
SEC("xdp.frags") int svc_xdp(struct xdp_md *ctx) { return early(ctx); }

char _license[] SEC("license") = "Apache-2.0";
