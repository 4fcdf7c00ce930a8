package shim

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Size is that of a terminal, in characters.
type Size struct{ Width, Height uint16 }

// Attachment is a client of a container's process; streams that are nil are not connected.
type Attachment struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

// Attach connects a client with what a container's process reads and writes from now on. It returns when the
// process has ended, the client does not take what it is given, or ctx ends.
func (c *Client) Attach(ctx context.Context, id string, a Attachment) error {
	conn, from, err := c.upgrade(ctx, "/containers/"+url.PathEscape(id)+"/attach")
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	send := make(chan []byte) // what goes to the shim is written by one goroutine
	go a.send(ctx, conn, send)
	if a.Stdin != nil {
		go a.read(ctx, send)
	}
	return a.receive(from)
}

// upgrade makes a connection of its own and switches it to frames.
func (c *Client) upgrade(ctx context.Context, path string) (net.Conn, io.Reader, error) {
	conn, err := dialSocket(ctx, c.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the shim in %s: %w", c.dir, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shim"+path, nil)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("ask the shim: %w", err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", attachProtocol)
	from := bufio.NewReader(conn)
	response, err := exchange(conn, from, request)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("ask the shim in %s: %w", c.dir, err)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return conn, from, nil
	}
	defer conn.Close()
	defer response.Body.Close()
	var f failure
	if err := json.NewDecoder(response.Body).Decode(&f); err != nil || f.Error == "" {
		return nil, nil, fmt.Errorf("ask the shim in %s: %s", c.dir, response.Status)
	}
	return nil, nil, errors.New(f.Error)
}

func exchange(conn net.Conn, from *bufio.Reader, request *http.Request) (*http.Response, error) {
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(from, request)
}

// read turns the client's input into frames.
func (a Attachment) read(ctx context.Context, send chan<- []byte) {
	for {
		buf := make([]byte, 8<<10)
		n, err := a.Stdin.Read(buf)
		if n > 0 {
			select {
			case send <- buf[:n]:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			close(send)
			return
		}
	}
}

// send writes frames until ctx ends or the shim is gone; then receive ends too, and says what of it.
func (a Attachment) send(ctx context.Context, to io.Writer, input <-chan []byte) {
	var err error
	resize := a.Resize
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-resize:
			if !ok {
				resize = nil
				continue
			}
			err = writeFrame(to, frameResize, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, size.Width), size.Height))
		case text, ok := <-input:
			if ok {
				err = writeFrame(to, frameStdin, text)
				continue
			}
			input = nil
			err = writeFrame(to, frameEOF, nil)
		}
	}
}

// receive gives the client what the process writes.
func (a Attachment) receive(from io.Reader) error {
	buf := make([]byte, longestFrame)
	for {
		kind, payload, err := readFrame(from, buf)
		if err != nil {
			return nil // the connection ends with the process; how that ended is in its status
		}
		to := a.Stdout
		if kind == frameStderr {
			to = a.Stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(payload); err != nil {
			return fmt.Errorf("write to the attached client: %w", err)
		}
	}
}
