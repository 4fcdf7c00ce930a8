package main

import (
	"bytes"
	"io"
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
