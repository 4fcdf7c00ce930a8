// Package rawio has read(2) and write(2) for sockets that never block, without telling Go's scheduler of them, which costs as
// much as a small read itself.
//
//	RawConn.Read(func(fd) bool { rawio.Read(fd, buf) ... })   within the poller's wait
//
// Invariant: the sockets are non-blocking, or a thread of the scheduler is lost to each call.
package rawio
