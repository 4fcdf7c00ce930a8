package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name     string
		env      map[string]string
		socket   string
		watchdog time.Duration
	}{
		{"no systemd", nil, "", 0},
		{"no watchdog", map[string]string{"NOTIFY_SOCKET": "/run/n"}, "/run/n", 0},
		{"abstract", map[string]string{"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2000000"}, "@n", 2 * time.Second},
		{"ours", map[string]string{"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "7"}, "/run/n", 90 * time.Second},
		{"another process's", map[string]string{"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "8"}, "/run/n", 0},
		{"no number", map[string]string{"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "soon"}, "/run/n", 0},
		{"negative", map[string]string{"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "-1"}, "/run/n", 0},
	}
	for _, tt := range tests {
		m := parse(func(name string) string { return tt.env[name] }, 7)
		if m.socket != tt.socket || m.watchdog != tt.watchdog || len(m.environ) != len(tt.env) {
			t.Errorf("%s: got %q, %v, %v", tt.name, m.socket, m.watchdog, m.environ)
		}
	}
}

// TestTakeLeavesNothingToInherit: the processes of pods must not speak for the server.
func TestTakeLeavesNothingToInherit(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/n")
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("WATCHDOG_PID", "1")
	m := Take()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); slices.Contains(variables, name) {
			t.Errorf("%s is still in the environment", entry)
		}
	}
	want := []string{"NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=1000000", "WATCHDOG_PID=1"}
	if !slices.Equal(m.Environ(), want) {
		t.Errorf("a program in this one's place gets %q, want %q", m.Environ(), want)
	}
}

// systemd is the other end of the socket: it gives the datagrams that come.
func systemd(t *testing.T, name string) (socket string, received <-chan string) {
	t.Helper()
	if name == "" {
		dir, err := os.MkdirTemp("", "notify") // and not the test's, which may be too long for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		name = filepath.Join(dir, "n")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	messages := make(chan string, 100)
	go func() {
		defer close(messages)
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			messages <- string(buf[:n])
		}
	}()
	return name, messages
}

// run has a manager look until the test ends.
func run(t *testing.T, m *Manager, look Health) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, look) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func next(t *testing.T, received <-chan string) string {
	t.Helper()
	select {
	case message := <-received:
		return message
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was sent in 30 s")
		return ""
	}
}

func TestSignsOfLife(t *testing.T) {
	for _, name := range []string{"", "@svcplane-test-notify"} {
		socket, received := systemd(t, name)
		run(t, &Manager{socket: socket, watchdog: 20 * time.Millisecond}, func(context.Context) (string, error) { return "12 services\nand more", nil })
		for range 3 {
			if got, want := next(t, received), "WATCHDOG=1\nSTATUS=12 services and more"; got != want {
				t.Errorf("sent %q, want %q", got, want)
			}
		}
	}
}

func TestStatusWithoutWatchdog(t *testing.T) {
	socket, received := systemd(t, "")
	run(t, &Manager{socket: socket}, func(context.Context) (string, error) { return "all well", nil })
	if got := next(t, received); got != "STATUS=all well" {
		t.Errorf("sent %q", got)
	}
}

// TestNoSignOfLifeWithoutLooking: where looking hangs, as it does at a lock that nobody gives back, systemd hears nothing.
func TestNoSignOfLifeWithoutLooking(t *testing.T) {
	socket, received := systemd(t, "")
	blocked, unblock := make(chan struct{}), make(chan struct{})
	var once sync.Once
	run(t, &Manager{socket: socket, watchdog: 20 * time.Millisecond}, func(context.Context) (string, error) {
		once.Do(func() { close(blocked) })
		<-unblock
		return "", context.Canceled
	})
	t.Cleanup(func() { close(unblock) })
	<-blocked
	select {
	case message := <-received:
		t.Errorf("sent %q while the process hangs", message)
	case <-time.After(200 * time.Millisecond): // ten times what systemd waits for
	}
}

// TestFailureIsTold: a process that does not work says why, is given no sign of life, and is looked at again soon.
func TestFailureIsTold(t *testing.T) {
	socket, received := systemd(t, "")
	fails := true
	run(t, &Manager{socket: socket, watchdog: time.Second}, func(context.Context) (string, error) {
		if fails {
			fails = false
			return "", errors.New("the api does not answer")
		}
		return "well again", nil
	})
	if got, want := next(t, received), "STATUS=not working: the api does not answer"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	if got := next(t, received); got != "WATCHDOG=1\nSTATUS=well again" {
		t.Errorf("sent %q", got)
	}
	m := &Manager{watchdog: 100 * time.Second}
	if after := m.interval(errors.New("x")); m.interval(nil) != 50*time.Second || after > 10*time.Second {
		t.Errorf("looked at every %v, after a failure in %v", m.interval(nil), after)
	}
}

func TestStatusIsShort(t *testing.T) {
	if got := Status(strings.Repeat("ä", 1000)); len(got) > maxStatus+20 || !strings.HasSuffix(got, "ä…") {
		t.Errorf("%d octets: %q", len(got), got)
	}
}

func TestNobodyThere(t *testing.T) {
	m := &Manager{}
	if err := m.notify(Ready); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	m.socket = filepath.Join(t.TempDir(), "gone")
	if err := m.notify(Ready); err == nil {
		t.Error("a socket that is not there is no error")
	}
	m.socket = "vsock:2:1234"
	if err := m.notify(Ready); err == nil || !strings.Contains(err.Error(), "unix") {
		t.Errorf("vsock: %v", err)
	}
}
