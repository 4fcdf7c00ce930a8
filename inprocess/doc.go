// Package inprocess lets the process reach its own servers without the network: a connection is a pair of sockets without a
// name, which no rule of netfilter and no program of a cgroup sees, and which no change of the machine's addresses ends.
//
//	clients of the API in this process ──Dial──▶ Listener ──Accept──▶ the API's server
//	the API, for logs and exec ─────────Dial──▶ Listener ──Accept──▶ the node's server
//	clients on the network ──▶ net.Listener ────────▲
//
// Invariants:
//   - The kernel holds what is on its way, as with any socket: neither side waits for the other to read.
//   - Close ends both ways, and whoever dials or accepts then gets net.ErrClosed.
package inprocess
