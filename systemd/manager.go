package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

// Messages of sd_notify(3).
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	alive    = "WATCHDOG=1"
)

// statusEvery is how often the status is renewed without a watchdog.
const statusEvery = 30 * time.Second

// maxStatus is how many octets of a status are shown: `systemctl status` has one line for it.
const maxStatus = 300

// variables are those of the environment that are meant for one process alone.
var variables = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// Manager is the service manager that has started this process; the zero value is none.
type Manager struct {
	socket   string        // path, or @ and the name of an abstract one; empty: nobody wants to know
	watchdog time.Duration // without a sign of life for so long the process is killed; 0: it is not
	environ  []string      // what Take has removed, NAME=value
}

// Health looks at the process: status is one line for people, err why the process does not work and has to be
// started anew. It may hang where the process does.
type Health func(ctx context.Context) (status string, err error)

// Take reads what systemd says in the environment and removes it there.
func Take() *Manager {
	m := parse(os.Getenv, os.Getpid())
	for _, name := range variables {
		os.Unsetenv(name)
	}
	return m
}

func parse(getenv func(string) string, pid int) *Manager {
	m := &Manager{}
	for _, name := range variables {
		if value := getenv(name); value != "" {
			m.environ = append(m.environ, name+"="+value)
		}
	}
	if m.socket = getenv("NOTIFY_SOCKET"); m.socket == "" {
		return m
	}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if forPID := getenv("WATCHDOG_PID"); err == nil && usec > 0 && (forPID == "" || forPID == strconv.Itoa(pid)) {
		m.watchdog = time.Duration(usec) * time.Microsecond
	}
	return m
}

// Environ is what Take has removed: for a program that is executed in the place of this one.
func (m *Manager) Environ() []string { return m.environ }

// Tell sends messages as one datagram; a failure is logged, since whoever serves goes on serving.
func (m *Manager) Tell(messages ...string) {
	if err := m.notify(messages...); err != nil {
		klog.ErrorS(err, "systemd does not hear what this process says: see NotifyAccess= in its unit")
	}
}

func (m *Manager) notify(messages ...string) error {
	if m.socket == "" {
		return nil
	}
	if m.socket[0] != '/' && m.socket[0] != '@' {
		return fmt.Errorf("notifying systemd at %s: only unix sockets are known", m.socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notifying systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(messages, "\n"))); err != nil {
		return fmt.Errorf("notifying systemd: %w", err)
	}
	return nil
}

// Run looks at the process again and again and reports what it finds, until ctx ends; it returns nil then.
func (m *Manager) Run(ctx context.Context, look Health) error {
	if m.socket == "" {
		<-ctx.Done()
		return nil
	}
	for {
		wait := m.round(ctx, look)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// round looks once, reports, and returns when to look again.
func (m *Manager) round(ctx context.Context, look Health) time.Duration {
	limit := m.interval(nil)
	hangs := time.AfterFunc(limit, func() {
		klog.Warningf("Whether the server works could not be seen for %v; systemd ends it after WatchdogSec (now %v)", limit, m.watchdog)
	})
	defer hangs.Stop()
	lookCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	status, err := look(lookCtx)
	if ctx.Err() != nil {
		return 0 // stopping is no fault
	}
	if err != nil {
		klog.ErrorS(err, "The server does not work; systemd ends it if that stays so", "watchdog", m.watchdog)
		m.Tell(Status("not working: " + err.Error()))
		return m.interval(err)
	}
	m.Tell(m.signs(status)...)
	return m.interval(nil)
}

// signs are the messages of a process that works.
func (m *Manager) signs(status string) []string {
	if m.watchdog == 0 {
		return []string{Status(status)}
	}
	return []string{alive, Status(status)}
}

// interval is half of the watchdog's time, as sd_watchdog_enabled(3) recommends, and less after a failure: the next look
// would come too late else.
func (m *Manager) interval(failed error) time.Duration {
	every := statusEvery
	if m.watchdog > 0 {
		every = m.watchdog / 2
	}
	if failed != nil {
		return every / 10
	}
	return every
}

// Status is the message that carries a line for people.
func Status(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + "…"
	}
	return "STATUS=" + text
}
