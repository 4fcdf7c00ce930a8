package proxytest

import (
	"fmt"
	"os"
	"testing"
)

// Namespaces gives files of all hosts' network namespaces, the client's too: which of them are pods' is for the data
// plane to find out.
func (l *Lab) Namespaces(t testing.TB) func() ([]string, error) {
	var paths []string
	for _, h := range l.Hosts {
		must(t, h.Do(func() {
			file, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { file.Close() })
			paths = append(paths, fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
		}))
	}
	return func() ([]string, error) { return paths, nil }
}
