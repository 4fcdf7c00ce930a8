package server

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestTheEndOfASessionIsNoNews(t *testing.T) {
	const over = `E1120 12:30:25 1 conn.go:353] "Error on socket receive" err="read tcp4 127.0.0.1:6443->127.0.0.1:44214: use of closed network connection"` + "\n"
	const news = `E1120 12:30:25 1 conn.go:353] "Error on socket receive" err="read tcp4 127.0.0.1:6443->127.0.0.1:44214: connection reset by peer"` + "\n"
	var quiet, all bytes.Buffer
	for _, log := range []*bootLog{{to: &quiet}, {to: &all, all: true}} {
		io.WriteString(log, over)
		io.WriteString(log, news)
	}
	if quiet.String() != news {
		t.Errorf("without verbosity it says %q", quiet.String())
	}
	if all.String() != over+news {
		t.Errorf("with verbosity it says %q", all.String())
	}
}

// TestALongStartSaysWhy: what is held back of a start comes out when that takes long, once, and so does the rest.
func TestALongStartSaysWhy(t *testing.T) {
	var to bytes.Buffer
	log := &bootLog{to: &to, quiet: true}
	io.WriteString(log, "the kernel does not take the rules\n")
	if to.Len() > 0 {
		t.Errorf("at first it says %q", to.String())
	}
	log.reveal()
	log.reveal()
	io.WriteString(log, "it still does not\n")
	lines := strings.SplitN(to.String(), "\n", 2)
	if !strings.HasPrefix(lines[0], "not ready after 30s") || lines[1] != "the kernel does not take the rules\nit still does not\n" {
		t.Errorf("it says %q", to.String())
	}
}

func TestBootLogHoldsUntilOpened(t *testing.T) {
	var out bytes.Buffer
	log := &bootLog{to: &out, quiet: true}
	log.Write([]byte("chatter\n"))
	if out.Len() > 0 {
		t.Errorf("said %q while starting", &out)
	}
	log.spill()
	if out.String() != "chatter\n" {
		t.Errorf("a failed start shows %q", &out)
	}
	log.open()
	log.Write([]byte("news\n"))
	if !strings.HasSuffix(out.String(), "news\n") {
		t.Errorf("got %q", &out)
	}
}
