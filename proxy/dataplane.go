package proxy

import "context"

// Change is what differs from the state before: first the IDs in Remove go, then the Frontends in Set come
// in place of what had their ID.
type Change struct {
	Remove []ID
	Set    []Frontend
}

// Empty says that nothing changes.
func (c Change) Empty() bool { return len(c.Remove) == 0 && len(c.Set) == 0 }

// UnsupportedError is the error of a Dataplane about a Frontend that it can never carry out.
type UnsupportedError string

func (e UnsupportedError) Error() string { return string(e) }

// Dataplane makes a kernel do what Frontends say. Its methods are not called concurrently, but for Dump,
// which may run beside a Sync or Resync and then returns the state before, after, or between. All are
// idempotent: what is already so is left alone. Resync comes before the first Sync. A Frontend that it cannot
// do is an UnsupportedError that names the Service. After an error the kernel holds the state before, or a part of the
// change; the next Sync or Resync writes what is missing.
type Dataplane interface {
	// Sync applies one change; its cost does not depend on the number of Services.
	Sync(ctx context.Context, change Change) error
	// Resync makes the kernel hold exactly the table, touching only what differs.
	Resync(ctx context.Context, table Table) error
	// Dump reads the kernel; its result equals the wanted Table unless something else has changed the kernel.
	Dump(ctx context.Context) (Table, error)
	// Close removes every trace from the kernel.
	Close(ctx context.Context) error
	// Capabilities are what else it can do, always the same.
	Capabilities() Capabilities
}
