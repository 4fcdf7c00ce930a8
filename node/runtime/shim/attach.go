package shim

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
)

// attachProtocol is what the connection of an attached client is upgraded to: frames in both directions.
const attachProtocol = "svcplane-attach"

// A frame is its kind (1 octet), the length of what follows (4, big endian) and that many octets.
const (
	frameStdin  = iota // to the process
	frameStdout        // from the process
	frameStderr        // from the process
	frameResize        // the client's terminal: columns, rows (2 octets each)
	frameEOF           // the client's input is at its end
)

const (
	longestFrame = 64 << 10
	// attachPatience is how long a client may leave what a process wrote unread. A process must not stand
	// still because somebody once looked at it, so such a client is let go.
	attachPatience = 10 * time.Second
)

func writeFrame(to io.Writer, kind byte, payload []byte) error {
	frame := make([]byte, 5, 5+len(payload))
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	_, err := to.Write(append(frame, payload...))
	return err
}

// readFrame uses buf (longestFrame octets) for the payload.
func readFrame(from io.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if int(size) > len(buf) {
		return 0, nil, fmt.Errorf("a frame of %d octets is longer than %d", size, len(buf))
	}
	_, err = io.ReadFull(from, buf[:size])
	return head[0], buf[:size], err
}

// audience are the clients attached to one process.
type audience struct {
	mu      sync.Mutex
	clients map[net.Conn]chan struct{} // closed when the client is let go
	over    bool                       // the process has ended
}

// join adds a client; the channel is closed when it has been let go. It is nil after the end of the process.
func (a *audience) join(client net.Conn) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return nil
	}
	if a.clients == nil {
		a.clients = map[net.Conn]chan struct{}{}
	}
	gone := make(chan struct{})
	a.clients[client] = gone
	return gone
}

// leave lets a client go; it may be repeated.
func (a *audience) leave(client net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(client)
}

func (a *audience) drop(client net.Conn) {
	if gone := a.clients[client]; gone != nil {
		delete(a.clients, client)
		client.Close()
		close(gone)
	}
}

// end lets everybody go, for good.
func (a *audience) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	for client := range a.clients {
		a.drop(client)
	}
}

// frames is a writer whose octets go to every client as frames of one kind. It does not fail.
func (a *audience) frames(kind byte) io.Writer { return frameWriter{a, kind} }

type frameWriter struct {
	audience *audience
	kind     byte
}

func (w frameWriter) Write(p []byte) (int, error) {
	a := w.audience
	a.mu.Lock()
	defer a.mu.Unlock()
	for client := range a.clients {
		for rest := p; len(rest) > 0; rest = rest[min(longestFrame, len(rest)):] {
			_ = client.SetWriteDeadline(time.Now().Add(attachPatience))
			if writeFrame(client, w.kind, rest[:min(longestFrame, len(rest))]) != nil {
				a.drop(client)
				break
			}
		}
	}
	return len(p), nil
}

// attach connects a client with a container's process until either is gone.
func (s *shim) attach(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	runner, err := s.attachable(id)
	if err != nil {
		reply(w, nil, err)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		reply(w, nil, fmt.Errorf("attach to container %s: %w", sandbox.Short(id), err))
		return
	}
	defer client.Close()
	_ = client.SetDeadline(time.Time{})
	// The answer goes first: once the client has joined, the process writes to it too.
	if _, err := fmt.Fprintf(client, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", attachProtocol); err != nil {
		return
	}
	gone := runner.clients.join(client)
	if gone == nil {
		return
	}
	go func() {
		runner.input(buffered.Reader)
		runner.clients.leave(client)
	}()
	<-gone
}

func (s *shim) attachable(id string) (*processRunner, error) {
	c := s.find(id)
	if c == nil {
		return nil, fmt.Errorf("attach to container %s: it is not held", sandbox.Short(id))
	}
	s.mu.Lock()
	running := c.status.State == Running
	s.mu.Unlock()
	if !running {
		return nil, fmt.Errorf("attach to container %s: it does not run", sandbox.Short(id))
	}
	runner, ok := c.runner.(*processRunner)
	if !ok {
		return nil, fmt.Errorf("attach to container %s: the builtin echo image has no terminal; use kubectl logs -f or kubectl exec", sandbox.Short(id))
	}
	return runner, nil
}

// input passes on what a client sends, until its connection ends.
func (r *processRunner) input(from io.Reader) {
	buf := make([]byte, longestFrame)
	for {
		kind, payload, err := readFrame(from, buf)
		if err != nil {
			return
		}
		switch kind {
		case frameStdin:
			if r.stdin != nil {
				_, _ = r.stdin.Write(payload) // a process that reads no more is no reason to stop listening to it
			}
		case frameEOF:
			if r.stdin != nil && r.container.spec.Process.StdinOnce && !r.container.spec.Process.TTY {
				r.stdin.Close()
			}
		case frameResize:
			if len(payload) == 4 && r.container.spec.Process.TTY {
				// Fails when the terminal is closed, and then nobody looks at it.
				_ = process.Resize(r.readers[0], binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]))
			}
		}
	}
}
