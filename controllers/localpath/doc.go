// Package localpath makes volumes for claims out of directories on the node's disk, as k3s' local-path provisioner does,
// and removes them again. Which claim gets which volume is decided by upstream's volume controller, which asks for one
// by an annotation on the claim.
//
//	claim, provisioner ours, ──▶ check ──refused──▶ Event ProvisioningFailed
//	node selected                  │ fine
//	                               ▼
//	                   mkdir <dir>/pvc-<uid of the claim> ──▶ PersistentVolume pvc-<uid>, hostPath, reserved for the claim
//
//	volume of ours, Released, ──▶ remove <dir>/<volume's name> ──▶ delete it ──▶ take our finalizer off
//	policy Delete
//
// Invariants:
//   - Level-triggered: a key is a claim or a volume, and what is to be done follows from the object as it is. Each step can
//     be done again, so a crash between two of them costs nothing.
//   - The directory is there before its volume and goes before it: no volume is ever without one, and what no volume
//     speaks of is empty and removed at the start.
//   - Nothing is removed but <dir>/<name of a volume of ours>, and only once its claim is gone and its policy is Delete.
//   - Claims and volumes of another node are left to the provisioner of that node, which has the directories.
//   - Requested sizes are promises that nobody holds: a volume may fill the disk, as with k3s.
package localpath
