// Package pull fetches images from registries (OCI distribution-spec v1.1, Docker's v2). What it has fetched lies as blobs in a
// directory until it is unpacked, so that a pull that was cut off goes on where it stopped.
//
//	reference ─▶ registries.yaml: endpoints in their order ─▶ manifest, of an index the one for this machine
//	                                                              │
//	          blobs/sha256-… ◀── Range requests, digest checked ──┴─ config, layers (some at a time)
//	                  └─▶ Fetched, a v1.Image that image.Store unpacks
//
// Invariants:
//   - A blob has its name only once its digest was right; before, it is a part.
//   - Credentials of a pod are sent to the registry that its image names, never to a mirror.
//   - A pull ends: it goes on as long as something comes, and fails after several tries in a row that brought nothing.
//   - A registry is believed nothing that a digest can check, and is read no further than the manifest says.
package pull
