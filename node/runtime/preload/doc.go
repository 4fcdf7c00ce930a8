// Package preload imports the archives of images that somebody puts into a directory: at start, and when they appear there.
//
//	inotify, once a minute ──▶ look: what is new or has changed, and nobody has open for writing
//	                             │
//	                             ├──▶ Import ──▶ images of the store, pinned
//	                             └──▶ archives.json: which file was imported, by size and time
//
// Invariants:
//   - An archive that somebody writes is neither imported nor complained about; when it is closed or renamed it is looked at.
//   - A broken archive is tried and told once, until it changes; a full disk is no fault of the archive, which is tried again.
//   - A file that was imported is not read again while the store has its images.
package preload
