// Package names decides how a pod is called and how it resolves names: its hostname, /etc/hosts and
// /etc/resolv.conf.
//
//	Pod ──Hostname──▶ hostname, domain ──Hosts──▶ /etc/hosts
//	Pod, host's resolv.conf ───DNS──────────────▶ servers, searches, options ──ResolvConf──▶ /etc/resolv.conf
//
// Invariants:
//   - Pure: the caller reads and writes the files.
//   - The limits of the resolver (3 servers, 32 searches, 2048 characters) are kept by leaving out from the
//     end; what was left out is reported.
package names
