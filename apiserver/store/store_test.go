package store

import (
	"net"
	"strings"
	"testing"
)

func TestExternalStoreThatDoesNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	l.Close()
	_, err = Open(t.Context(), "", []string{endpoint})
	if err == nil || !strings.Contains(err.Error(), endpoint) || !strings.Contains(err.Error(), "--etcd-endpoints") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestStoreWithTooLongAPath(t *testing.T) {
	_, err := Open(t.Context(), t.TempDir()+"/"+strings.Repeat("x", 120), nil)
	if err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("got %v", err)
	}
}
