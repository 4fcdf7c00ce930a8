// Command svcplane is Kubernetes' Services stack in one process. This package reads flags, checks what can be
// checked, builds the rooms and starts them one after the other; everything else is in the rooms.
//
//	flags, --config ─▶ Options ─check(Host)─▶ Config ─claim─▶ data directory, ports, tools
//	                                                     │      (until here nothing is changed)
//	                                                     ▼
//	    build:  store ▸ api ▸ catalog ▸ controllers ▸ runtime ▸ node ▸ proxy ▸ dns ▸ ingress
//	    start:  ───────────── each when the one before serves ────────────▶  "svcplane ready in N ms"
//	    stop:   ◀──────────────────────── in reverse ─────────────────────
//	                                                     ▲
//	    status, proxy show|diff ── unix socket (0600) ───┘
//	    └─▶ printer: table, JSON, YAML; run ─▶ exit code (exit.go)
//
// Invariants:
//   - A start that fails before it claimed what it needs leaves the machine as it was, and says in one line
//     what, where and how to mend.
//   - Stopping changes nothing in the kernel: Services answer and pods run while no server does. Only
//     `svcplane cleanup` removes them.
//   - The same binary, executed again with a hidden first argument, holds the pods' containers.
package main
