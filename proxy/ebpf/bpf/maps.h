// What the programs and the process share: the layout of every map. Go's side of it is in layout.go.
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define inline_ static __always_inline

// addr is an IPv6 address, or an IPv4 one mapped into IPv6 (RFC 4291, 2.5.5.2), so that there is one code for both.
struct addr {
	__u32 w[4];
};

struct frontend_key {
	struct addr addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

enum verdict { VERDICT_BALANCE, VERDICT_REJECT, VERDICT_DROP };
enum masquerade { MASQ_HAIRPIN, MASQ_OUTSIDE_PODS, MASQ_EVERYBODY };

// side is what one group of clients meets. Sets of endpoints, ranges and origins are named by the hash of what
// they hold: they never change, and a frontend changes all at once.
struct side {
	__u64 set;
	__u64 ranges; // 0: everybody
	__u64 origin;
	__u32 count;
	__u32 affinity; // seconds
	__u8 scope;     // 0: no such side
	__u8 verdict;
	__u8 masquerade;
	__u8 pad[5];
};

struct frontend {
	struct side inside, outside;
};

struct slot_key {
	__u64 set;
	__u32 index;
	__u32 pad;
};

struct slot {
	struct addr addr;
	__be16 port;
	__u8 proto; // where it is what a program dialled, else 0
	__u8 held;  // there, too: the socket is connected
};

struct member_key {
	__u64 set;
	struct slot slot;
	__u32 pad;
};

struct range_key {
	__u32 bits;
	__u32 ranges[2]; // the 64 bits of side.ranges
	struct addr addr;
};

struct cidr_key {
	__u32 bits;
	struct addr addr;
};

enum cidr { CIDR_POD = 1, CIDR_SERVICE = 2 };

struct affinity_key {
	__u64 origin;
	struct addr client;
};

struct affinity_entry {
	struct slot slot;
	__u32 pad;
	__u64 last;
};

// socket_choice is the endpoint that was chosen for a socket, and the set that it was chosen from.
struct socket_choice {
	struct slot slot;
	__u32 pad;
	__u64 last;
	__u64 set;
};

enum ns_kind { NS_HOST = 1, NS_POD = 2 };

// netns is a network namespace of this node, and its own addresses, zero when it has none.
struct netns {
	struct addr v4, v6;
	__u32 kind;
};

struct socket_key {
	__u64 cookie;
	struct slot slot;
	__u32 pad;
};

// counter_key is an endpoint of one port of a Service. Without a slot it is what was refused there; endpoints of the
// past are together under a slot with the protocol 255, which the process makes.
struct counter_key {
	__u64 origin;
	struct slot slot;
	__u32 pad;
};

enum direction { TO_ENDPOINT, FROM_ENDPOINT, OPENS };

// counters are what one processor has counted for a counter_key.
struct counters {
	__u64 sockets; // connected to the endpoint, or refused
	__u64 flows;   // of packets, or refused
	__u64 packets[2], bytes[2];
};

// role is proxy.Role. Programs that were given none yet leave new connections to others, as draining ones do.
enum role { ROLE_DRAINING, ROLE_ACTIVE, ROLE_SOLE };

enum scheduler { RANDOM, MAGLEV, ROUND_ROBIN, LEAST_CONNECTIONS };

struct settings {
	struct addr node[2]; // IPv4, IPv6
	__u16 snat_first, snat_last;
	__u16 node_port_first, node_port_last;
	__u32 role;
	__u32 bypass;
};

// bypass says which connections are redirected from link to link, past the node's own stack, of those that can be. ENDING is
// for the moment in which the process enters those in the kernel's connection table: they go on, and no new ones begin.
enum bypass { BYPASS_OFF, BYPASS_ON, BYPASS_ENDING };

enum stage { STAGE_IN, STAGE_OUT };

// flow_key is a packet as it comes to one of the two places where it is rewritten.
struct flow_key {
	struct addr src, dst;
	__be16 sport, dport;
	__u8 proto;
	__u8 stage;
	__u16 pad;
};

enum flow_state { STATE_SEEN = 1, STATE_FIN = 2, STATE_FIN_OTHER = 4, STATE_RST = 8, STATE_STREAM = 16 };
// FLOW_FOREIGN is of a connection that another data plane translates: its packets pass.
enum flow_flags { FLOW_FORWARD = 1, FLOW_FOREIGN = 2 };

// flow says what becomes of a packet. In STAGE_IN it gets the destination to:port, and the source port other; in
// STAGE_OUT the source to:port, and the destination port other.
struct flow {
	struct addr to;
	__be16 port;
	__be16 other;
	__u8 state;
	__u8 flags;
	__u16 link; // where the client's packets enter the node; 0: all packets pass the node's own stack
	__u64 last; // ns since the start of the machine
	__u64 origin; // whose packets these are; 0 where they are counted elsewhere
};

struct fragment_key {
	struct addr src, dst;
	__u32 id;
	__u8 proto;
	__u8 pad[3];
};

struct fragment {
	__be16 sport, dport;
};

enum reason {
	COUNT_SOCKET_REWRITTEN,
	COUNT_SOCKET_REFUSED,
	COUNT_FLOW_MADE,
	COUNT_PACKET_REFUSED,
	COUNT_DROP_RANGES,
	COUNT_DROP_VERDICT,
	COUNT_DROP_NO_PORT,
	COUNT_MALFORMED,
	COUNT_PORT_KEPT,
	COUNT_UNCOUNTED,
	COUNT_REASONS,
};

#define MAP(name_, type_, key_, value_, entries_, flags_)                      \
	struct {                                                               \
		__uint(type, type_);                                           \
		__type(key, key_);                                             \
		__type(value, value_);                                         \
		__uint(max_entries, entries_);                                 \
		__uint(map_flags, flags_);                                     \
	} name_ SEC(".maps")

struct origin {
	char text[224];
};

MAP(frontends, BPF_MAP_TYPE_HASH, struct frontend_key, struct frontend, 1 << 17, BPF_F_NO_PREALLOC);
MAP(endpoints, BPF_MAP_TYPE_HASH, struct slot_key, struct slot, 1 << 19, BPF_F_NO_PREALLOC);
MAP(affinity_match, BPF_MAP_TYPE_HASH, struct member_key, __u32, 1 << 17, BPF_F_NO_PREALLOC);
MAP(source_ranges, BPF_MAP_TYPE_LPM_TRIE, struct range_key, __u32, 1 << 16, BPF_F_NO_PREALLOC);
MAP(service_names, BPF_MAP_TYPE_HASH, __u64, struct origin, 1 << 17, BPF_F_NO_PREALLOC);
MAP(cidrs, BPF_MAP_TYPE_LPM_TRIE, struct cidr_key, __u32, 4096, BPF_F_NO_PREALLOC);
MAP(own_listeners, BPF_MAP_TYPE_HASH, struct frontend_key, __u32, 1 << 14, BPF_F_NO_PREALLOC);
MAP(pod_routes, BPF_MAP_TYPE_HASH, struct addr, __u32, 1 << 12, BPF_F_NO_PREALLOC);
MAP(netns, BPF_MAP_TYPE_HASH, __u64, struct netns, 1 << 12, BPF_F_NO_PREALLOC);
MAP(config, BPF_MAP_TYPE_ARRAY, __u32, struct settings, 1, 0);
MAP(affinity, BPF_MAP_TYPE_LRU_HASH, struct affinity_key, struct affinity_entry, 1 << 15, 0);
MAP(socket_revnat, BPF_MAP_TYPE_LRU_HASH, struct socket_key, struct slot, 1 << 16, 0);
MAP(socket_choices, BPF_MAP_TYPE_LRU_HASH, struct socket_key, struct socket_choice, 1 << 12, 0);
MAP(flows, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 1 << 17, 0);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment, 1 << 10, 0);
MAP(service_counter, BPF_MAP_TYPE_PERCPU_HASH, struct counter_key, struct counters, 1 << 17, BPF_F_NO_PREALLOC);
MAP(rr_cursor, BPF_MAP_TYPE_HASH, __u64, __u64, 1 << 14, BPF_F_NO_PREALLOC);
MAP(open_conns, BPF_MAP_TYPE_HASH, struct slot, __s64, 1 << 16, BPF_F_NO_PREALLOC);
MAP(event_counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, COUNT_REASONS, 0);
