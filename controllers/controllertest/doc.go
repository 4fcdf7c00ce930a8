// Package controllertest runs one controller in a test, on a fake API.
//
//	Run: informers ▸ controller.Run ▸ ready ─▶ the test ─▶ the end: Run returns nil
//	     WantEvent ◀── the recorder that the controller has
//
// Invariant: a test waits for conditions, for Deadline at most, and never for a time.
package controllertest
