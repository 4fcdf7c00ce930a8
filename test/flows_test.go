package test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"svcplane/proxy/proxytest/traffic"
)

// TestMain makes this binary a program for scripts, too.
func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"flows": flows}) }

const flowsUsage = `usage: flows serve LETTER :PORT
       flows ask DIR NAME TCP UDP TO PLAIN...

serve answers conversations over TCP and UDP. ask begins TCP and UDP conversations with TO for each octet in the file
DIR/rounds, and one over each protocol with every PLAIN at once. It keeps in DIR/NAME.begun how many have had an answer
until there is a file DIR/end; then each has to be answered once more, and none may have broken or stalled.`

func flows() {
	err := errors.New(flowsUsage)
	switch args := os.Args[1:]; {
	case len(args) == 3 && args[0] == "serve" && len(args[1]) == 1:
		err = serveFlows(args[1][0], args[2])
	case len(args) > 5 && args[0] == "ask":
		err = askFlows(args[1], args[2], args[3:5], args[5], args[6:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flows:", err)
		os.Exit(1)
	}
}

func serveFlows(letter byte, at string) error {
	addr, err := net.ResolveUDPAddr("udp", at)
	if err != nil {
		return err
	}
	packets, err := net.ListenUDP("udp", addr)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", at) // the last: a probe that gets a connection finds both
	if err != nil {
		return err
	}
	if err := traffic.Serve(listener, packets, letter); err != nil {
		return err
	}
	select {}
}

// asker begins conversations as the files of its directory tell it to.
type asker struct {
	dir, name string
	counts    []string // of TCP and UDP, for each round
	to        string
	*traffic.Traffic
}

func askFlows(dir, name string, counts []string, to string, plain []string) error {
	a := asker{dir: dir, name: name, counts: counts, to: to, Traffic: traffic.New()}
	for _, p := range plain {
		if err := a.begin([]string{"1", "1"}, p, a.Plain); err != nil {
			return err
		}
	}
	if err := a.follow(); err != nil {
		return err
	}
	again := a.Again()
	for deadline := time.Now().Add(20 * time.Second); !again() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	ended := again()
	r := a.End()
	fmt.Printf("%s: %d conversations; the longest answer took %v, without a Service %v\n", name, r.Begun, r.Worst, r.Plain)
	switch {
	case len(r.Broken) > 0:
		return fmt.Errorf("%d of %d conversations broke, the first:\n%s", len(r.Broken), r.Begun, strings.Join(r.Broken[:min(20, len(r.Broken))], "\n"))
	case r.Stalled():
		return fmt.Errorf("an answer took %v, and without a Service at most %v", r.Worst, r.Plain)
	case !ended:
		return errors.New("not everybody was answered at the end")
	}
	return nil
}

// follow returns at the end, or when a conversation breaks.
func (a asker) follow() error {
	for begun, told := 0, -1; len(a.Now().Broken) == 0; time.Sleep(10 * time.Millisecond) {
		rounds, err := os.ReadFile(filepath.Join(a.dir, "rounds"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for ; begun < len(bytes.TrimSpace(rounds)); begun++ {
			if err := a.begin(a.counts, a.to, a.Through); err != nil {
				return err
			}
		}
		if now := a.Now().Begun; now != told {
			told = now
			if err := os.WriteFile(filepath.Join(a.dir, a.name+".begun"), fmt.Appendln(nil, now), 0o600); err != nil {
				return err
			}
		}
		if _, err := os.Stat(filepath.Join(a.dir, "end")); err == nil {
			return nil
		}
	}
	return nil
}

// begin dials as many times over TCP and UDP as counts say.
func (a asker) begin(counts []string, to string, talk func(net.Conn, netip.AddrPort)) error {
	addr, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	for i, network := range []string{"tcp4", "udp4"} {
		n, err := strconv.Atoi(counts[i])
		if err != nil {
			return err
		}
		for range n {
			conn, err := net.DialTimeout(network, to, 20*time.Second)
			if err != nil {
				return err
			}
			talk(conn, addr)
		}
	}
	return nil
}
