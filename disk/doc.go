// Package disk watches the file system that the data directory is on. When little is left of it, or nothing can be written
// any more, it says so, and what would need more space is refused before the disk is full; when there is room again,
// that ends by itself. What it cannot see coming, a quota or another process that is faster, is why the store keeps a
// reserve: the watch has it filled up again and again, and a reserve that cannot be filled is little space, too.
//
//	statfs, once a second ──┐
//	Reserve (the store's) ──┴─▶ Watch ─▶ Refusal: why nothing may grow now ─▶ API (507), image import
//	                              └────▶ Trouble, Figure ─▶ svcplane status, the log
//
// Invariants:
//   - It writes nothing itself.
//   - A refusal begins below one mark and ends above a higher one, so that it does not flutter.
package disk
