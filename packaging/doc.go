// Package packaging puts svcplane on a machine as a service of systemd and takes it away again. It also has what the Debian
// package and the tarballs are made of (scripts/deb.sh, scripts/dist.sh).
//
//	svcplane install ─▶ Plan: files and their contents ─▶ list, then each file ─▶ systemctl daemon-reload, enable
//	                        /usr/local/bin/svcplane                               [start | restart]
//	                        /etc/systemd/system/svcplane.service
//	                        /etc/svcplane/config.yaml
//	                        completion for bash
//	svcplane uninstall ─▶ systemctl disable --now ─▶ cleanup ─▶ what the list has, and nothing else
//
// Invariants:
//   - A file is on the list before it is written, and only what is on the list is removed.
//   - An existing config file stays. A unit that somebody has written or changed is an error, and stays, too.
//   - A file has its old contents or its new ones, and never half of them.
//   - Installing twice leaves the same as installing once.
package packaging
