// Package iptables is the data plane that renders Frontends to iptables rules. The first packet of a
// connection finds its Frontend through a tree of chains, 16 ways at each level, so that the rules it meets
// grow with the logarithm of the number of Services; a change rewrites a leaf of the tree and the chains
// whose contents are new.
//
//	PREROUTING, OUTPUT ─▶ SVCPLANE-SERVICES ─▶ T (10.96.16.0/20) ─▶ T (…/24) ─▶ leaf: 10.96.16.5 tcp/80
//	                                                                                │
//	                       who may use it:   I pods and node · O others · R source ranges
//	                       who gets it:      F masquerade, random choice, DNAT (affinity: E, one for each endpoint)
//	POSTROUTING ─▶ SVCPLANE-POSTROUTING: what carries our mark is masqueraded
//	INPUT, FORWARD, OUTPUT, new connections ─▶ SVCPLANE-REFUSE: the same tree for what is rejected or dropped
//	FORWARD ─▶ SVCPLANE-FORWARD: our traffic passes, whatever the policy of the chain
//
// Invariants:
//   - Only chains named SVCPLANE-* and the jumps to them are ours; nothing else is touched.
//   - The name of an E, F, I, O or R chain is the hash of its rules: what did not change is not written.
//   - Rendering is a function of the Frontends: order and history leave no trace in the rules.
//   - Rules are written in the very form that iptables-save prints, so reading back is comparing text.
//   - One iptables-restore --noflush for each family and change; a table changes whole or not at all.
package iptables
