package echo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestNoEstablishedConnectionIsLost ends servers while clients connect: whoever got a connection gets an answer.
func TestNoEstablishedConnectionIsLost(t *testing.T) {
	for round := range 40 {
		s := New(Config{Pod: "p", Log: io.Discard, Ports: []Port{{Number: freePort(t), Protocol: "TCP"}}})
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		address := fmt.Sprintf("127.0.0.1:%d", s.cfg.Ports[0].Number)
		ctx, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		errs := make(chan error, 64)
		var connected sync.WaitGroup
		connected.Add(cap(errs))
		for range cap(errs) {
			clients.Go(func() { errs <- ask(address, &connected) })
		}
		ended := make(chan int, 1)
		go func() { ended <- s.Run(ctx, func() time.Duration { return 20 * time.Second }) }()
		connected.Wait()
		stop()
		clients.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if code := <-ended; code != 0 {
			t.Errorf("round %d: exit code %d", round, code)
		}
		if t.Failed() {
			return
		}
	}
}

// ask makes one request over a connection of its own.
func ask(address string, connected *sync.WaitGroup) error {
	conn, err := net.Dial("tcp4", address)
	connected.Done()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /hostname HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
