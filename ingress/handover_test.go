package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"svcplane/ingress/listen"
)

// TestHandover ends an ingress and starts another on the same ports, a while later, while clients connect without
// pause: each of them is answered.
func TestHandover(t *testing.T) {
	_, addr := endpointServer(t, says("reached"))
	name := fmt.Sprintf("@svcplane-test-%d-%d", os.Getpid(), addr.Port())
	var holder sync.WaitGroup
	keep := func(sockets []*os.File) error {
		var own []*os.File
		for _, f := range sockets {
			fd, err := syscall.Dup(int(f.Fd()))
			if err != nil {
				return err
			}
			own = append(own, os.NewFile(uintptr(fd), "held"))
		}
		waiting := make(chan bool)
		holder.Go(func() {
			if err := listen.Hold(context.Background(), name, own, func() { close(waiting) }); err != nil {
				t.Error(err)
			}
			for _, f := range own {
				f.Close()
			}
		})
		<-waiting
		return nil
	}
	world := func(change func(*Config)) *world {
		return newWorldWith(t, change, service("toad"), slice("toad", addr), toService("toad"))
	}
	first := world(func(c *Config) { c.Keep = keep })
	stop, sent := make(chan bool), atomic.Int64{}
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := askOnce(first.plain); err != nil {
					t.Error(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	first.eventually(func() error {
		if sent.Load() < 100 {
			return errors.New("not enough requests before")
		}
		return nil
	})
	first.stop()
	before := sent.Load()
	listeners, err := listen.Take(name)
	first.must(err)
	holder.Wait()
	if len(listeners) != 2 {
		t.Fatalf("%d sockets, want 2", len(listeners))
	}
	second := world(func(c *Config) {
		c.HTTP, c.HTTPS = netip.MustParseAddrPort(first.plain), netip.MustParseAddrPort(first.secure)
		c.Inherited = listeners
	})
	second.eventually(func() error {
		if sent.Load() < before+100 {
			return errors.New("not enough requests after")
		}
		return nil
	})
	close(stop)
	clients.Wait()
	if left, err := listen.Take(name); err != nil || len(left) != 0 {
		t.Errorf("the holder is still there: %v %v", left, err)
	}
}

func askOnce(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: toad\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200") {
		return fmt.Errorf("%q %v", got, err)
	}
	return nil
}
