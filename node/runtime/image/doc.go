// Package image keeps container images, that were pulled (package pull) or imported from archives. An archive is a tar file,
// gzip'ed or not, as written by `docker save` or in the OCI image layout.
//
//	archive, blobs ──▶ verify digests ──▶ unpack each layer ──▶ <dir>/layers/<sha256 of the uncompressed layer>
//	                                     │
//	                                     └──▶ index.json: references, config, layers (written last)
//
// Invariants:
//   - A layer directory is complete and verified, or it is not there: it is unpacked aside and renamed.
//   - Nothing in an archive makes a file outside of its layer directory, whatever its names and links say.
//   - Whiteouts become what overlayfs understands (a 0/0 device, trusted.overlay.opaque), so layers are used
//     as they lie; where the file system has no such thing they stay files, and Flatten copies the layers.
//   - With what is kept beside its directory a layer's tar can be written again, bit for bit.
//   - The index is replaced as a whole and read anew by who needs it: another process may have imported.
package image
