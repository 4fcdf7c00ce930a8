// Which endpoint of a set a client gets: --ebpf-scheduler.
#pragma once

#include "maps.h"

#define MAGLEV_LOOKS 64
#define LEAST_LOOKS 8
#define HELD_LOOKS 64

// scheduler is Scheduler of the process, set before the programs are loaded: the verifier leaves out what it is not.
const volatile __u32 scheduler = RANDOM;

// quest is a search for one of count endpoints.
struct quest {
	__u64 set;
	__u64 hash; // of the client, and of what it dialled
	__u32 count;
	__u32 pad;
};

#define SEED 0x9e3779b97f4a7c15ULL

inline_ __u64 mix(__u64 h, __u64 word)
{
	h = (h ^ word) * SEED;
	return h ^ (h >> 32);
}

inline_ __u64 mix_addr(__u64 h, const struct addr *a)
{
	h = mix(h, (__u64)a->w[0] << 32 | a->w[1]);
	return mix(h, (__u64)a->w[2] << 32 | a->w[3]);
}

// hash_of is the same for a packet's connection on every node, and after every restart.
inline_ __u64 hash_of(const struct flow_key *t)
{
	__u64 h = mix_addr(mix_addr(SEED, &t->src), &t->dst);
	return mix(h, (__u64)t->sport << 32 | (__u32)t->dport << 8 | t->proto);
}

// add_conns adds to the number of open connections of an endpoint. Only the scheduler least-connections needs it.
inline_ void add_conns(const struct slot *ep, __s64 by)
{
	__s64 none = 0;
	if (scheduler != LEAST_CONNECTIONS)
		return;
	__s64 *load = bpf_map_lookup_elem(&open_conns, ep);
	if (!load) {
		bpf_map_update_elem(&open_conns, ep, &none, BPF_NOEXIST);
		load = bpf_map_lookup_elem(&open_conns, ep);
	}
	if (load)
		__sync_fetch_and_add(load, by);
}

// maglev finds the endpoint with the highest hash of client and endpoint (rendezvous hashing): other endpoints that come or go
// do not change which of two is before the other. Of more than MAGLEV_LOOKS endpoints it looks at so many in a row; the hash
// decides where they begin, which moves by one at most when an endpoint comes or goes. It returns an index. Not
// being static, it is verified once; see reserve_port.
__noinline __u32 maglev(const struct quest *q)
{
	__u64 best = 0;
	__u32 found = 0;
	if (!q || !q->count)
		return 0;
	__u32 count = q->count, start = count > MAGLEV_LOOKS ? (q->hash >> 32) * count >> 32 : 0;
	struct slot_key where = {.set = q->set};
	for (__u32 i = 0; i < MAGLEV_LOOKS; i++) {
		if (i >= count)
			break;
		where.index = (start + i) % count;
		struct slot *ep = bpf_map_lookup_elem(&endpoints, &where);
		if (!ep)
			break; // the set is being removed, and who looks for the index finds that out
		__u64 draws = mix(mix(mix_addr(q->hash, &ep->addr), ep->port), SEED);
		if (draws > best) {
			best = draws;
			found = where.index;
		}
	}
	return found;
}

// least finds the endpoint with the fewest connections, of some by chance when there are more than it has looks for.
__noinline __u32 least(const struct quest *q)
{
	__s64 best = 1LL << 62;
	__u32 found = 0;
	if (!q || !q->count)
		return 0;
	__u32 count = q->count, at = bpf_get_prandom_u32() % count;
	struct slot_key where = {.set = q->set};
	for (__u32 i = 0; i < LEAST_LOOKS; i++) {
		if (i >= count)
			break;
		where.index = (count > LEAST_LOOKS ? bpf_get_prandom_u32() : at + i) % count;
		struct slot *ep = bpf_map_lookup_elem(&endpoints, &where);
		if (!ep)
			break;
		__s64 *load = bpf_map_lookup_elem(&open_conns, ep);
		__s64 its = load && *load > 0 ? *load : 0;
		if (its < best) {
			best = its;
			found = where.index;
		}
	}
	return found;
}

// next_turn is the cursor of a set, which it moves by one. It begins anywhere: sets come and go with every change, and the first
// endpoint would get more than the others.
inline_ __u32 next_turn(__u64 set)
{
	__u64 first = bpf_get_prandom_u32();
	__u64 *turn = bpf_map_lookup_elem(&rr_cursor, &set);
	if (!turn) {
		bpf_map_update_elem(&rr_cursor, &set, &first, BPF_NOEXIST);
		turn = bpf_map_lookup_elem(&rr_cursor, &set);
	}
	return turn ? __sync_fetch_and_add(turn, 1) : first;
}

// holds says whether an endpoint is among the first HELD_LOOKS of a set.
__noinline int holds(const struct quest *q, const struct slot *wanted)
{
	if (!q || !wanted)
		return 0;
	struct slot_key where = {.set = q->set};
	for (__u32 i = 0; i < HELD_LOOKS; i++) {
		if (i >= q->count)
			break;
		where.index = i;
		struct slot *ep = bpf_map_lookup_elem(&endpoints, &where);
		if (ep && ep->port == wanted->port && ep->addr.w[0] == wanted->addr.w[0] && ep->addr.w[1] == wanted->addr.w[1] &&
		    ep->addr.w[2] == wanted->addr.w[2] && ep->addr.w[3] == wanted->addr.w[3])
			return 1;
	}
	return 0;
}

inline_ __u32 index_of(const struct quest *q)
{
	switch (scheduler) {
	case MAGLEV:
		return maglev(q);
	case LEAST_CONNECTIONS:
		return least(q);
	case ROUND_ROBIN:
		return next_turn(q->set) % q->count;
	}
	return bpf_get_prandom_u32() % q->count;
}

// schedule finds the endpoint; false when there is none, or the set is being removed.
inline_ bool schedule(const struct quest *q, struct slot *out)
{
	if (!q->count)
		return false;
	struct slot_key where = {.set = q->set, .index = index_of(q)};
	struct slot *found = bpf_map_lookup_elem(&endpoints, &where);
	if (!found)
		return false;
	*out = *found;
	return true;
}
