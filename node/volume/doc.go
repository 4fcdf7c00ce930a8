// Package volume provides the volumes of pods as directories and files of the host: emptyDir, hostPath, those of claims
// (PersistentVolumes of type hostPath and local), configMap, secret, downwardAPI and projected (with service-account
// tokens). Those of type image are the runtime's.
//
//	Pod ──Setup──▶ payload (pure: path -> content, mode) ──write──▶ <dir>/<pod>/volumes/<volume>/..data -> ..2026_…
//	  │   │                 ▲                                                    key -> ..data/key
//	  │   └▶ Mounted        └─ ConfigMaps, Secrets, downward.Facts, TokenRequest
//	  └──▶ claim ──bound──▶ PersistentVolume ──▶ a path of the host
//
// Invariants:
//   - A reader sees the files of one state or of the next, never a mixture: ..data is replaced by a rename.
//   - Setup is idempotent and does not touch what is as it should be; called again it refreshes.
//   - Nothing leaves its volume: files are written and subpaths resolved inside it.
//   - A volume that cannot be provided is an error that names it; no container starts without it.
package volume
