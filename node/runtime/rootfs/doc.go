// Package rootfs builds the file system a container sees, in a mount namespace of the calling thread: the
// host's own root, or an image's, with the pod's mounts on it.
//
//	host:   /  ──(target exists)──▶ bind mount over it
//	           ──(does not exist)─▶ overlay over the nearest directory that exists, then bind mount: the
//	                                host's folder is never written to
//	image:  overlay(layers, upper) + /proc /sys /dev ──▶ bind mounts ──▶ pivot_root
//
// Invariants:
//   - Nothing is created on the host's file system outside of the directories given in Spec.
//   - All mounts are private to the mount namespace: its end is their end.
//   - A target never leaves the container's root, whatever symbolic links an image holds.
package rootfs
