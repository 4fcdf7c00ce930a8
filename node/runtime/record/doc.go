// Package record keeps values in files of JSON that are replaced as a whole: a reader sees the old one or the new one.
//
//	Write ──▶ .new-123 ──rename──▶ state.json ──▶ Read
//
// Invariants:
//   - What is recorded describes processes, namespaces and links, which end with the machine: nothing is forced to the disk. A power
//     failure may leave an empty file, and Read tells that it is broken.
package record
